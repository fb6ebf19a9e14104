// The page of a plan: recommendation, tables, laws, and when a figure is drawn.

const run = JSON.parse(find("data").textContent);
const figures = new Map();
const CONVENTIONS = { active: "Active parameters", flops: "FLOPs", memory: "Memory", tpp: "TPP" };

function writeWords() {
  writeTitle(run.title);
  find("words").append(make("p", {}, run.lead));
  const { recommendation } = run;
  if (!recommendation) return;
  find("recommendation-part").hidden = false;
  find("choices").append(...recommendation.choices.map(choiceBox));
  find("conflict").append(recommendation.conflict ?? "");
  find("conflict").hidden = !recommendation.conflict;
  writeItems("uncertainty", recommendation.uncertainty);
}

function choiceBox(choice) {
  const doubts = choice.uncertainty.map((doubt) => make("li", {}, doubt));
  return make("div", {}, make("h3", {}, `For ${run.goals[choice.goal]}: ${choice.name}`), make("p", {}, choice.reason), make("ul", {}, ...doubts));
}

/** The table of one model, or of all configurations with the recommended ones marked. */
function writeTables() {
  find("model-part").hidden = !run.model;
  find("table-part").hidden = Boolean(run.model);
  if (run.model) {
    find("model").append(tableBody(run.model, [0, 1]));
    return;
  }
  const recommended = new Set(run.points.filter((point) => point.chosen.length).map((point) => point.name));
  const row = ({ cells, laws }) => make("tr", { className: recommended.has(cells[0]) ? "chosen" : "" },
    ...cells.map((cell, at) => make("td", { className: at ? "" : "left" }, cell)), ...laws.map((law) => make("td", { title: law.words }, law.cell)));
  find("table").append(tableHead(run.columns, [0]), make("tbody", {}, ...run.rows.map(row)));
}

function writeLaws() {
  const total = run.points.length;
  const rows = run.laws.map((law) => [law.name, law.source, law.fitted_on, `${law.applied} of ${total}`, `${law.in_range} of ${total}`, law.best ?? "–"]);
  find("laws").append(tableHead(["Law", "Source", "Fitted on", "Applies to", "In range", "Lowest for"], [0, 1, 2, 5]), tableBody(rows, [0, 1, 2, 5]));
  writePairs("conventions", Object.entries(run.conventions).map(([name, words]) => [CONVENTIONS[name] ?? name, words]));
}

function draw() {
  if (!window.Plotly) return;
  const color = colors();
  for (const [id, build] of figures) drawFigure(id, build(run, color));
}

function setUpShapes() {
  find("space-part").hidden = false;
  figures.set("space", spaceFigure);
  find("curves-part").hidden = run.curves.length === 0;
  if (!run.curves.length) return;
  const [{ name, points }] = run.curves;
  const few = run.laws.filter((law) => points.filter((point) => point.losses[law.name] !== null).length < 2).map((law) => law.name);
  find("curves-lead").append(`Shape ${name} with other numbers of experts. Each law starts from its own lowest loss, since losses of different laws cannot be compared. Thick: inside the range on which the law was fitted. `, few.length ? `Not drawn, since it applies to fewer than two of these: ${few.join(", ")}.` : "");
  figures.set("curves", curvesFigure);
}

function setUp() {
  if (!run.model) setUpShapes();
  find("parts").style.height = `${110 + 60 * run.parts.length}px`;
  figures.set("parts", partsFigure);
  watchPrinting(watchTheme(draw));
}

writeWords();
writeTables();
writeLaws();
document.addEventListener("DOMContentLoaded", setUp);
