// Two pictures one over the other: a range, the pointer or the keys say where one ends; a button shows what differs.
for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input[type=range]"), layers = slider.querySelector(".layers");
  const first = slider.querySelector(".first");
  const show = () => slider.style.setProperty("--at", `${range.value}%`);
  const follow = (event) => {
    const box = layers.getBoundingClientRect();
    range.value = 100 * (event.clientX - box.left) / box.width;
    range.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const grow = () => {
    for (const image of layers.querySelectorAll("img"))
      image.classList.toggle("small", first.clientWidth > 1.5 * first.naturalWidth);
  };
  range.addEventListener("input", show);
  layers.addEventListener("pointermove", (event) => { if (event.buttons & 1) follow(event); });
  layers.addEventListener("dragstart", (event) => event.preventDefault());
  first.addEventListener("load", grow);
  const button = slider.querySelector(".apart");
  button.addEventListener("click", () => {
    const apart = slider.classList.toggle("difference");
    button.setAttribute("aria-pressed", apart);
  });
  show();
  grow();
}
