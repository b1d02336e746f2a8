// Names for what the theme leaves without one, for screen readers.
document$.subscribe(() => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  const name = () =>
    document.querySelectorAll("nav.md-code__nav:not([aria-label])").forEach((nav) => {
      const block = [...document.querySelectorAll("pre")].indexOf(nav.closest("pre")) + 1;
      nav.setAttribute("aria-label", `Code block ${block}`);
    });
  name();
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
});
