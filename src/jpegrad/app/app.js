"use strict";

const form = document.getElementById("form"), at = form.elements;
const slider = document.querySelector(".slider"), layers = slider.querySelector(".layers");
const images = { a: slider.querySelector(".first"), b: slider.querySelector(".second") };
const message = document.getElementById("message"), grid = document.getElementById("grid");
const component = document.getElementById("component");
const OWN = "your own";
const plain = { quality: 50, subsampling: "4:2:0", tables: "annex_k", forward: "exact", surrogate: "gaussian", width: null };
const sides = { a: { settings: { ...plain }, view: "coded" }, b: { settings: { ...plain, quality: 20 }, view: "coded" } };
const pictures = new Map();
let choices, picture, now = "a", place = [0, 0], frequency = [0, 1], size = [1, 1];

const which = () => Number(document.querySelector("input[name=table]:checked").value);
const comparing = () => at.compare.checked;

async function ask(address, content, signal) {
  const raw = content instanceof Blob;
  const answer = await fetch(address, {
    method: "POST", signal, body: raw ? content : JSON.stringify(content),
    headers: { "Content-Type": raw ? "application/octet-stream" : "application/json" },
  });
  const found = await answer.json().catch(() => ({ error: `the server answers ${answer.status}` }));
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function say(text, wrong = false) {
  message.textContent = text;
  message.classList.toggle("wrong", wrong);
}

// The newest question of each kind stops the one before; a short wait gathers what a slider sends.
const running = {};
async function latest(kind, work, wait = 60) {
  running[kind]?.abort();
  const mine = running[kind] = new AbortController();
  await new Promise((done) => setTimeout(done, wait));
  if (mine.signal.aborted) return;
  document.body.setAttribute("aria-busy", "true");
  try {
    await work(mine.signal);
  } catch (error) {
    if (error.name !== "AbortError")
      say(error instanceof TypeError ? "The server does not answer: is jpegrad app still running?" : error.message, true);
  } finally {
    if (running[kind] === mine) delete running[kind];
    if (!Object.keys(running).length) document.body.removeAttribute("aria-busy");
  }
}

function look(side) {
  latest(side, async (signal) => {
    const found = await ask("/look", { picture, ...sides[side] }, signal);
    images[side].src = found.image;
    await images[side].decode();
    Object.assign(sides[side], { facts: found.facts, entries: found.tables });
    images[side].alt = `${sides[side].view} at quality ${sides[side].settings.quality}`;
    say(found.warnings.join(" "), found.warnings.length > 0);
    if (side === "a") { size = [images.a.naturalWidth, images.a.naturalHeight]; frame(); }
    if (side === now) { fillGrid(); fillComponents(found.gray ? ["Y"] : ["Y", "Cb", "Cr"]); stairs(); }
    tell();
  });
}

function stairs() {
  latest("stairs", async (signal) => {
    const about = { component: component.selectedIndex, place, frequency, settings: sides[now].settings, picture };
    const found = await ask("/staircase", about, signal);
    document.getElementById("drawing").innerHTML = found.svg;
    document.getElementById("words").textContent = found.words;
  }, 0);
}

function refresh() {
  look("a");
  if (comparing()) look("b");
}

function frame() {
  place = place.map((value, i) => Math.min(Math.max(value, 0), size[i] - 1));
  const [across, down] = component.selectedIndex > 0 ? ratio() : [1, 1];
  const box = document.querySelector(".block").style, sides = [8 * across, 8 * down];
  const start = place.map((value, i) => Math.floor(value / sides[i]) * sides[i]);
  [box.left, box.top] = start.map((value, i) => `${100 * value / size[i]}%`);
  [box.width, box.height] = sides.map((side, i) => `${100 * Math.min(side, size[i] - start[i]) / size[i]}%`);
}

const ratio = () => ({ "4:4:4": [1, 1], "4:2:2": [2, 1], "4:2:0": [2, 2], "4:4:0": [1, 2], "4:1:1": [4, 1] })[
  sides[now].settings.subsampling];

function tell() {
  const shown = comparing() ? ["a", "b"] : ["a"], list = document.getElementById("facts");
  const rows = shown.flatMap((side) => (sides[side].facts || []).map(([name, words]) =>
    [shown.length > 1 ? `${side === "a" ? "left" : "right"}, ${name}` : name, words]));
  list.replaceChildren(...rows.flatMap((row) => row.map((text, i) => {
    const cell = document.createElement(i ? "dd" : "dt");
    cell.textContent = text;
    return cell;
  })));
  for (const [id, side] of [["left", "a"], ["right", "b"]])
    document.getElementById(id).textContent = `${sides[side].view}, ${brief(sides[side].settings)}`;
  const query = new URLSearchParams({ picture, settings: JSON.stringify(sides[now].settings) });
  for (const link of document.querySelectorAll("a[data-kind]")) link.href = `/download/${link.dataset.kind}?${query}`;
}

const brief = (settings) => `${Array.isArray(settings.tables) ? "own tables" : `q ${settings.quality}`} ${settings.subsampling}`;

function fillForm() {
  const { settings, view } = sides[now], own = Array.isArray(settings.tables);
  at.view.value = view;
  at.quality.value = at.slide.value = settings.quality;
  for (const name of ["subsampling", "forward", "surrogate"]) at[name].value = settings[name];
  at.tables.value = own ? OWN : settings.tables;
  at.quality.disabled = at.slide.disabled = own;
  at.said.textContent = own ? "(your tables are used as they are)" : "";
  const width = choices.widths[settings.surrogate];
  at.width.disabled = !width;
  at.width.value = width ? settings.width ?? width[1] : "";
  document.querySelector(".width").firstChild.textContent = width ? `Width (${width[0]}) ` : "Width (it has none) ";
  document.getElementById("source").textContent = choices.surrogate[settings.surrogate];
}

function fillComponents(names) {
  const before = Math.max(0, component.selectedIndex);
  if (names.length !== component.length) component.replaceChildren(...names.map((name) => new Option(name)));
  component.selectedIndex = Math.min(before, names.length - 1);
  frame();
}

function fillGrid() {
  const table = sides[now].entries[which()], largest = Math.max(...table.flat());
  for (const [v, row] of table.entries()) for (const [h, entry] of row.entries()) {
    const cell = grid.rows[v].cells[h].firstChild;
    if (cell !== document.activeElement || Number(cell.value) !== entry) cell.value = entry;
    cell.style.setProperty("--share", entry / largest);
  }
}

function choose(v, h, focus) {
  for (const cell of grid.querySelectorAll("[aria-current]")) { cell.removeAttribute("aria-current"); cell.tabIndex = -1; }
  const cell = grid.rows[v].cells[h].firstChild;
  cell.setAttribute("aria-current", "true");
  cell.tabIndex = 0;
  if (focus) { cell.focus(); cell.select(); }
  if (frequency[0] === v && frequency[1] === h) return;
  frequency = [v, h];
  stairs();
}

function makeGrid() {
  for (let v = 0; v < 8; v++) {
    const row = grid.insertRow();
    for (let h = 0; h < 8; h++) {
      const cell = document.createElement("input");
      Object.assign(cell, { type: "text", inputMode: "numeric", tabIndex: -1, maxLength: 3, ariaLabel: `row ${v}, column ${h}` });
      cell.addEventListener("focus", () => choose(v, h));
      cell.addEventListener("change", () => edit(v, h, cell));
      cell.addEventListener("keydown", (event) => {
        const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (event.key === "Enter") { event.preventDefault(); edit(v, h, cell); }
        if (!step) return;
        event.preventDefault();
        edit(v, h, cell);
        choose(Math.min(7, Math.max(0, v + step[0])), Math.min(7, Math.max(0, h + step[1])), true);
      });
      row.insertCell().append(cell);
    }
  }
  choose(...frequency);
}

function edit(v, h, cell) {
  const side = sides[now], entry = Number(cell.value), before = side.entries[which()][v][h];
  if (entry === before) return;
  if (!Number.isInteger(entry) || entry < 1 || entry > 255) {
    say(`Expected an entry from 1 to 255, got ${cell.value || "nothing"}.`, true);
    cell.value = before;
    return;
  }
  side.entries[which()][v][h] = entry;
  side.settings.tables = structuredClone(side.entries);
  fillForm();
  look(now);
}

async function open(file) {
  if (!file) return;
  if (file.size > choices.most.bytes) {
    say(`picture: expected a file of at most ${choices.most.bytes.toLocaleString("en")} bytes, got ${file.size.toLocaleString("en")}`, true);
    return;
  }
  say(`Reading ${file.name} …`);
  try {
    const found = await ask(`/pictures?${new URLSearchParams({ name: file.name })}`, file);
    if (!pictures.has(found.id)) at.picture.add(new Option(`${found.name} (${found.width}×${found.height})`, found.id));
    pictures.set(found.id, found);
    at.picture.value = picture = found.id;
    refresh();
  } catch (error) {
    say(error.message, true);
  }
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => {
  const { settings } = sides[now], { name, value } = event.target;
  if (name === "file") { open(event.target.files[0]); return; }
  if (name === "picture") { picture = value; refresh(); return; }
  if (name === "compare" || name === "side") {
    now = comparing() ? at.side.value : "a";
    if (!comparing()) { at.side.value = "a"; slider.classList.remove("difference"); slider.querySelector(".apart").ariaPressed = "false"; }
    document.querySelector(".which").hidden = !comparing();
    slider.classList.toggle("single", !comparing());
    fillForm();
    if (name === "compare") refresh(); else { fillGrid(); frame(); tell(); stairs(); }
    return;
  }
  if (name === "view") sides[now].view = value;
  else if (name === "slide" || name === "quality") {
    const quality = Number(value);
    if (!(quality >= 1 && quality <= 100)) { say(`Expected a quality from 1 to 100, got ${value || "nothing"}.`, true); return; }
    settings.quality = quality;
    (name === "slide" ? at.quality : at.slide).value = value;
  } else if (name === "tables") settings.tables = value === OWN ? structuredClone(sides[now].entries) : value;
  else if (name === "width") {
    if (!(Number(value) > 0)) { say(`Expected a width above 0, got ${value || "nothing"}.`, true); return; }
    settings.width = Number(value);
  } else {
    settings[name] = value;
    if (name === "surrogate") settings.width = null;
  }
  if (name !== "quality" && name !== "slide" && name !== "width") fillForm();
  look(now);
});
component.addEventListener("input", () => { frame(); stairs(); });
for (const radio of document.querySelectorAll("input[name=table]")) radio.addEventListener("input", () => {
  fillGrid();
  component.selectedIndex = Math.min(which(), component.length - 1);
  frame();
  stairs();
});
let pressed;
layers.addEventListener("pointerdown", (event) => { pressed = [event.clientX, event.clientY]; });
layers.addEventListener("pointerup", (event) => {
  if (!pressed || Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > 4) return;
  const box = layers.getBoundingClientRect();
  place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((share, i) => Math.floor(share * size[i]));
  frame();
  stairs();
});
layers.addEventListener("keydown", (event) => {
  const step = { ArrowUp: [0, -8], ArrowDown: [0, 8], ArrowLeft: [-8, 0], ArrowRight: [8, 0] }[event.key];
  if (!step) return;
  event.preventDefault();
  place = place.map((value, i) => value + step[i]);
  frame();
  stairs();
});

async function start() {
  choices = await (await fetch("/choices")).json();
  const fill = (name, values) => at[name].replaceChildren(...values.map((value) => new Option(value)));
  fill("picture", choices.pictures);
  fill("view", choices.views);
  fill("subsampling", choices.subsampling);
  fill("tables", [...choices.tables, OWN]);
  fill("forward", choices.forward);
  fill("surrogate", Object.keys(choices.surrogate));
  at.picture.value = picture = choices.pictures.at(-1);
  makeGrid();
  fillForm();
  refresh();
}

start();
