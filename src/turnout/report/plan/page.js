"use strict";
// The page of a plan: words, tables, and when a figure is drawn. All text goes in as text.

const run = JSON.parse(find("data").textContent);
const drawings = new Map();

function chosenNames() {
  return new Set(run.points.filter((point) => point.chosen.length).map((point) => point.name));
}

function writeWords() {
  document.title = `${label(run.title, 80)} · Turnout`;
  find("title").append(make("bdi", { title: label(run.title, 300) }, label(run.title, 120)));
  find("words").append(make("p", {}, run.lead));
  const found = run.recommendation;
  if (!found) return;
  find("recommendation-part").hidden = false;
  find("choices").append(...found.choices.map((choice) => make("div", {}, make("h3", {}, `For ${run.goals[choice.goal]}: ${choice.name}`), make("p", {}, choice.reason), make("ul", {}, ...choice.uncertainty.map((doubt) => make("li", {}, doubt))))));
  find("conflict").append(found.conflict ?? "");
  find("conflict").hidden = !found.conflict;
  find("uncertainty").append(...found.uncertainty.map((line) => make("li", {}, line)));
}

function writeModel() {
  if (!run.model) return;
  find("model-part").hidden = false;
  find("model").append(make("tbody", {}, ...run.model.map(([name, value]) => make("tr", {}, make("td", { className: "left" }, name), make("td", { className: "list" }, value)))));
}

function writeTable() {
  if (run.model) return;
  find("table-part").hidden = false;
  const chosen = chosenNames();
  const rows = run.rows.map(({ cells, laws }) => make("tr", { className: chosen.has(cells[0]) ? "chosen" : "" },
    ...cells.map((cell, at) => make("td", { className: at ? "" : "left" }, cell)), ...laws.map((law) => make("td", { title: law.words }, law.cell))));
  find("table").append(tableHead(run.columns, [0]), make("tbody", {}, ...rows));
}

function writeLaws() {
  const total = run.points.length;
  const rows = run.laws.map((law) => make("tr", {}, make("td", { className: "left" }, law.name), make("td", { className: "list" }, law.source), make("td", { className: "list" }, law.fitted_on),
    make("td", {}, `${law.applied} of ${total}`), make("td", {}, `${law.in_range} of ${total}`), make("td", { className: "left" }, law.best ?? "–")));
  find("laws").append(tableHead(["Law", "Source", "Fitted on", "Applies to", "In range", "Lowest for"], [0, 1, 2, 5]), make("tbody", {}, ...rows));
  const names = { active: "Active parameters", flops: "FLOPs", memory: "Memory", tpp: "TPP" };
  find("conventions").append(...Object.entries(run.conventions).flatMap(([name, words]) => [make("dt", {}, names[name] ?? name), make("dd", {}, words)]));
}

function draw() {
  if (!window.Plotly) return;
  const colour = colours();
  for (const [id, build] of drawings) {
    const { traces, layout } = build(run, colour);
    Plotly.react(find(id), traces, layout, { displayModeBar: false, responsive: true });
    find(id).dataset.drawn = "1";
  }
}

function setUp() {
  if (!run.model) {
    find("space-part").hidden = false;
    drawings.set("space", spaceFigure);
    find("curves-part").hidden = run.curves.length === 0;
    const missing = run.laws.filter((law) => run.curves[0].points.filter((point) => point.losses[law.name] !== null).length < 2).map((law) => law.name);
    find("curves-lead").append(`The shape ${run.curves[0].name} with other numbers of experts. Each law is drawn above its own least, for the heights of different laws do not compare; thick where the law was fitted. `, missing.length ? `${missing.join(", ")}: applies to too few of these to draw.` : "");
    drawings.set("curves", curvesFigure);
  }
  find("parts").style.height = `${110 + 60 * run.parts.length}px`;
  drawings.set("parts", partsFigure);
  watchTheme(draw);
}

writeWords();
writeModel();
writeTable();
writeLaws();
document.addEventListener("DOMContentLoaded", setUp);
