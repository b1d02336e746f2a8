// What the theme leaves without a name or out of the keyboard's reach, and tables that sort.
const ROWS_WORTH_SORTING = 6;

function nameCodeBlocks() {
  document.querySelectorAll("nav.md-code__nav:not([aria-label])").forEach((nav) => {
    const block = [...document.querySelectorAll("pre")].indexOf(nav.closest("pre")) + 1;
    nav.setAttribute("aria-label", `Code block ${block}`);
  });
}

// Parts of a page may have the same heading: within the table of contents they are lists, and no landmarks.
function flattenContents() {
  document.querySelectorAll(".md-nav--secondary .md-nav").forEach((part) => {
    part.setAttribute("role", "presentation");
    part.removeAttribute("aria-label");
  });
}

function reachScrolled() {
  document.querySelectorAll(".md-typeset__scrollwrap, pre > code, .md-typeset p:has(> img)").forEach((part) => {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
  });
}

// "71 %", "+0.06", "1.00 ± 0.01", "28.2 [26, 30]" are numbers; "exact" is above all of them, "–" below.
function valueOf(cell) {
  const text = cell.textContent.trim().replace("−", "-").replace(",", "");
  if (text === "exact") return Infinity;
  const number = parseFloat(text);
  return Number.isNaN(number) ? (text === "–" ? -Infinity : text) : number;
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

function sortBy(table, header, index) {
  const down = header.getAttribute("aria-sort") === "ascending";
  table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((x, y) => compare(valueOf(x.cells[index]), valueOf(y.cells[index])));
  body.append(...(down ? rows.reverse() : rows));
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((header, index) => {
    if (header.querySelector("button")) return;
    const button = document.createElement("button");
    button.className = "sort";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortBy(table, header, index));
  });
}

document$.subscribe(() => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  flattenContents();
  document.querySelectorAll(".md-typeset table:not([class])").forEach((table) => {
    table.querySelectorAll("th").forEach((header) => {
      if (!header.textContent.trim()) header.replaceWith(document.createElement("td"));
    });
    if (table.tBodies[0]?.rows.length > ROWS_WORTH_SORTING && table.closest("details")) makeSortable(table);
  });
  const tend = () => {
    nameCodeBlocks();
    reachScrolled();
  };
  tend();
  window.addEventListener("load", reachScrolled);
  // The theme wraps tables and adds buttons after this.
  new MutationObserver(tend).observe(document.body, { childList: true, subtree: true });
  window.addEventListener("resize", reachScrolled);
  document.querySelectorAll("details").forEach((part) => part.addEventListener("toggle", reachScrolled));
});
