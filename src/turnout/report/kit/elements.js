"use strict";
// Elements of a page: nodes, names, lists and tables, dark and light. Text from a run goes in as text, never as markup.

const find = (id) => document.getElementById(id);

/** A new element; children that are strings become text nodes. */
function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Text for a label: no control or direction-changing characters, at most `longest` characters. */
function label(text, longest = 28) {
  const tidy = String(text).slice(0, 4 * longest).replace(/[\p{Cc}\p{Cf}]/gu, " ");
  const letters = Array.from(tidy);
  const whole = letters.length <= longest && tidy.length === String(text).length;
  return whole ? tidy : letters.slice(0, longest - 1).join("") + "…";
}

/** A name from a run in an element of its own, so that its direction and length do not affect the text around it. */
const named = (text, longest = 60) => make("bdi", { title: label(text, 300) }, label(text, longest));

/** The page's title: in the heading and in the browser's tab. */
function writeTitle(title) {
  document.title = `${label(title, 80)} · Turnout`;
  find("title").append(named(title, 120));
}

/** Sentences from a run as items of the list `id`. */
function writeItems(id, sentences, longest = 2000) {
  find(id).replaceChildren(...sentences.map((sentence) => make("li", { dir: "auto" }, label(sentence, longest))));
}

/** Terms and their values as a description list; values that are strings are names from a run. */
function writePairs(id, entries) {
  const value = (content) => (typeof content === "string" ? make("bdi", {}, label(content, 900)) : content);
  find(id).replaceChildren(...entries.flatMap(([term, content]) => [make("dt", {}, term), make("dd", {}, value(content))]));
}

/** A table's head; `left` are the columns of text. */
function tableHead(names, left) {
  const heading = (name, index) => make("th", { scope: "col", className: left.includes(index) ? "left" : "" }, name);
  return make("thead", {}, make("tr", {}, ...names.map(heading)));
}

/** A table's body from rows of text; `left` are the columns of text, which may break. */
function tableBody(rows, left) {
  const cell = (text, index) => make("td", { className: left.includes(index) ? "list" : "" }, text);
  return make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map(cell))));
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

/** Print in light, with `prepare` before; restore the theme afterwards. */
function watchPrinting(setTheme, prepare = () => {}) {
  let before = "light";
  window.addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme;
    document.documentElement.classList.add("printing");
    setTheme("light");
    prepare();
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    setTheme(before);
  });
}
