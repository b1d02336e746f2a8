// Two pictures one over the other: a range, the pointer or the keys say where one ends; a button shows what differs.
// Small ones are enlarged by whole numbers, so that all pixels are drawn alike.
function fit(slider) {
  const first = slider.querySelector(".first"), narrow = window.matchMedia("(max-width: 59.99rem)").matches;
  if (!first.naturalWidth) return;
  const tallest = (narrow && slider.dataset.low !== undefined ? 0.4 : 0.85) * window.innerHeight;
  const most = Math.min(slider.parentElement.clientWidth / first.naturalWidth, tallest / first.naturalHeight);
  const times = most < 1 ? most : Math.min(4, Math.floor(most));
  slider.style.width = `${times * first.naturalWidth}px`;
  for (const image of slider.querySelectorAll("img")) image.classList.toggle("small", times > 1);
}

for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input[type=range]"), layers = slider.querySelector(".layers");
  const show = () => slider.style.setProperty("--at", `${range.value}%`);
  const follow = (event) => {
    const box = layers.getBoundingClientRect();
    range.value = 100 * (event.clientX - box.left) / box.width;
    range.dispatchEvent(new Event("input", { bubbles: true }));
  };
  range.addEventListener("input", show);
  layers.addEventListener("pointermove", (event) => { if (event.buttons & 1) follow(event); });
  layers.addEventListener("dragstart", (event) => event.preventDefault());
  slider.querySelector(".first").addEventListener("load", () => fit(slider));
  const button = slider.querySelector(".apart");
  button.addEventListener("click", () => {
    const apart = slider.classList.toggle("difference");
    button.setAttribute("aria-pressed", apart);
  });
  show();
  fit(slider);
}
window.addEventListener("resize", () => { for (const slider of document.querySelectorAll(".slider")) fit(slider); });
