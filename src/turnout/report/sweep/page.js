// The page of a sweep: sentences and tables, and the figures of the selected task, measure and axis.

const run = JSON.parse(find("data").textContent);
const AUDITED = Object.keys(run.audited);

function writeWords() {
  writeTitle(run.title);
  find("words").append(make("p", {}, run.lead));
  find("notes").append(run.notes.join(" "));
  find("tests-lead").append(`Two lines over log₂ of the experts (Simonsohn 2018); the break of each seed is fitted on the other seeds. Slopes are per doubling, with one-sided 95 % bounds and one-sided p. The margin of a monotone curve is ${100 * run.margin} % of the curve’s range per doubling. Best E: bootstrap over seeds. At edge: share of resamples whose best is the first or last of the grid.`);
}

function writeSummary() {
  const { columns, rows } = run.summary;
  const heading = ([curve, measure]) => make("th", { scope: "col", className: "left", title: curve }, measure, make("small", {}, label(curve, 90)));
  const row = ({ task, cells }) => make("tr", {}, make("td", { className: "left" }, label(task, 40)), ...cells.map(({ cell, words }) => make("td", { className: "list", title: words }, cell)));
  find("summary").append(
    make("thead", {}, make("tr", {}, make("th", { scope: "col", className: "left" }, "Task"), ...columns.map(heading))),
    make("tbody", {}, ...rows.map(row)),
  );
}

function writeTables() {
  const tests = ["Curve", "Task", "Measure", "Verdict", "Left slope", "Right slope", "Margin", "Breaks", "Best E [95 %]", "At edge", "Seeds"];
  find("tests").append(tableHead(tests, [0, 1, 2, 3]), tableBody(run.verdicts, [0, 1, 2, 3]));
  find("effects").append(...run.effects.map(effectPart));
  find("audit").append(tableHead(["Curve", "Measure", "Slope per doubling [95 %]", "Seeds", "Verdict"], [0, 1, 4]), tableBody(run.audit, [0, 1, 4]));
  const lost = [...run.failed, ...run.left_out.map((words) => ["left out", words])];
  find("failed-part").hidden = lost.length === 0;
  find("failed").append(tableHead(["Trial", "Reason"], [0, 1]), tableBody(lost, [0, 1]));
}

function effectPart({ name, empty, rows }) {
  const left = [0, 1, 2, 5];
  const columns = ["First − second", "Task", "Measure", "Difference [95 %]", "Seeds", "Verdict of the first"];
  if (!rows.length) return make("div", {}, make("h3", {}, name), make("p", { className: "lead" }, empty));
  const table = make("table", {}, tableHead(columns, left), tableBody(rows, left));
  return make("div", {}, make("h3", {}, name), make("div", { className: rows.length > 12 ? "scroll tall" : "scroll", tabIndex: 0, role: "region", "aria-label": name }, table));
}

/** The sentences, shapes and notes of the selected task and measure. */
function writeSelected() {
  const task = find("task").value;
  const sentences = run.curves.flatMap((curve) => (curve.sentences[task] ?? []).map((line) => (run.curves.length > 1 ? `${curve.name}: ${line}` : line)));
  writeItems("sentences", sentences);
  const columns = ["Shape", "Active", "Total", "1 − K/E", "TPP", "Failed", "Training loss", ...Object.values(run.measures)];
  find("shapes").replaceChildren(tableHead(columns, [0]), tableBody(run.table[task] ?? [], [0]));
  const values = run.points.map((point) => valueOf(point, task, find("measure").value)).filter((value) => value);
  find("legend-note").textContent = values.some((value) => value.low === null)
    ? "No intervals: fewer than three seeds."
    : "Bars: 95 % t intervals over seeds, unpaired; a cross is a dense model. The tests pair seeds and detect smaller differences than these bars.";
}

function figures(color) {
  const [task, measure, along] = ["task", "measure", "along"].map((id) => find(id).value);
  const loss = [task, "loss"];
  return {
    curve: alongFigure(run, task, measure, along, color, false),
    "chain-loss": chainFigure(run, ["training", "loss"], loss, ["training loss", "task loss"], color),
    "chain-accuracy": chainFigure(run, loss, [task, "accuracy"], ["task loss", "accuracy"], color),
    "gap-generalization": alongFigure(run, task, "generalisation_gap", along, color, false),
    "gap-accuracy": alongFigure(run, task, "loss_accuracy_gap", along, color, false),
    ...Object.fromEntries(AUDITED.map((name) => [`audit-${name}`, alongFigure(run, "audit", name, "experts", color, true)])),
  };
}

function draw() {
  if (!window.Plotly || !run.tasks.length) return;
  for (const [id, figure] of Object.entries(figures(colors()))) drawFigure(id, figure);
}

function select() {
  writeSelected();
  draw();
}

function fillSelect(id, entries) {
  find(id).append(...entries.map(([value, words]) => make("option", { value }, words)));
  find(id).addEventListener("change", select);
}

function setUp() {
  find("audit-part").hidden = !AUDITED.length;
  find("audit-figures").append(...AUDITED.map((name) => make("div", {}, make("h3", {}, run.audited[name]), make("figure", { id: `audit-${name}`, className: "figure", role: "img", "aria-label": `${run.audited[name]} along sparsity` }))));
  watchPrinting(watchTheme(draw));
}

fillSelect("task", run.tasks.map((task) => [task, label(task, 40)]));
fillSelect("measure", Object.entries(run.measures));
fillSelect("along", Object.entries(ALONG));
writeWords();
writeSummary();
writeTables();
writeSelected();
document.addEventListener("DOMContentLoaded", setUp);
