"use strict";
// What both pages are built of: elements, numbers as text, dark and light. Text goes in as text, never as markup.

const find = (id) => document.getElementById(id);

/** A new element; children that are strings become text. */
function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function show(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 2 ? 2 : 3);
}

/** A count with three digits and a suffix, as the tables write it. */
function count(value) {
  const suffixes = ["", "K", "M", "B", "T"];
  let power = 0;
  while (Number(value.toPrecision(3)) >= 1000 && power < suffixes.length - 1) { value /= 1000; power += 1; }
  return `${Number(value.toPrecision(3))}${suffixes[power]}`;
}

const showP = (p) => (p === null || p === undefined ? "–" : p < 0.0015 ? "0.001" : p.toFixed(p < 0.1 ? 3 : 2));
const showEnds = (ends) => `[${show(ends[0])}, ${show(ends[1])}]`;

function tableHead(names, left) {
  return make("thead", {}, make("tr", {}, ...names.map((name, index) => make("th", { scope: "col", className: left.includes(index) ? "left" : "" }, name))));
}

/** Follow the system's dark or light setting and the button; `redraw` after each change. Returns how to set it. */
function watchTheme(redraw) {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    find("theme").textContent = theme === "dark" ? "Light" : "Dark";
    find("theme").setAttribute("aria-pressed", String(theme === "dark"));
    redraw();
  };
  set(system.matches ? "dark" : "light");
  system.addEventListener("change", () => set(system.matches ? "dark" : "light"));
  find("theme").addEventListener("click", () => set(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  return set;
}
