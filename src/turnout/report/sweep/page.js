// The page of a sweep: words, tables, and what is drawn for the chosen task. All text goes in as text.

const run = JSON.parse(find("data").textContent);
const AUDITED = ["gini", "coverage", "jaccard_mean"];

function body(rows, left) {
  return make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((cell, at) => make("td", { className: left.includes(at) ? "list" : "" }, cell)))));
}

function writeWords() {
  document.title = `${label(run.title, 80)} · Turnout`;
  find("title").append(make("bdi", { title: label(run.title, 300) }, label(run.title, 120)));
  find("words").append(make("p", {}, run.lead));
  find("notes").append(run.notes.join(" "));
  find("tests-lead").append(`Two lines over log₂ of the experts (Simonsohn 2018), the break of each seed found on the other seeds. Slopes are per doubling, with one-sided 95 % bounds; p is one-sided. The margin of a monotone curve is ${100 * run.margin} % of the curve’s range per doubling. Best E: bootstrap over seeds; at edge: share of resamples whose best is the grid’s first or last.`);
}

function writeSummary() {
  const { columns, rows } = run.summary;
  const short = (name) => label(name, 90);
  find("summary").append(
    make("thead", {}, make("tr", {}, make("th", { scope: "col", className: "left" }, "Task"), ...columns.map(([curve, measure]) => make("th", { scope: "col", className: "left", title: curve }, measure, make("small", {}, short(curve)))))),
    make("tbody", {}, ...rows.map(({ task, cells }) => make("tr", {}, make("td", { className: "left" }, label(task, 40)), ...cells.map(({ cell, words }) => make("td", { className: "list", title: words }, cell))))),
  );
}

function writeTables() {
  find("tests").append(tableHead(["Curve", "Task", "Measure", "Verdict", "Left slope", "Right slope", "Margin", "Breaks", "Best E [95 %]", "At edge", "Seeds"], [0, 1, 2, 3]), body(run.verdicts, [0, 1, 2, 3]));
  const columns = ["First − second", "Task", "Measure", "Difference [95 %]", "Seeds", "Verdict of the first"];
  find("effects").append(...run.effects.map(({ name, empty, rows }) => make("div", {},
    make("h3", {}, name),
    rows.length ? make("div", { className: rows.length > 12 ? "scroll tall" : "scroll", tabIndex: 0, role: "region", "aria-label": name }, make("table", {}, tableHead(columns, [0, 1, 2, 5]), body(rows, [0, 1, 2, 5]))) : make("p", { className: "lead" }, empty),
  )));
  find("audit").append(tableHead(["Curve", "Measure", "Slope per doubling [95 %]", "Seeds", "Verdict"], [0, 1, 4]), body(run.audit, [0, 1, 4]));
  const lost = [...run.failed, ...run.left_out.map((words) => ["left out", words])];
  find("failed-part").hidden = lost.length === 0;
  find("failed").append(tableHead(["Trial", "Why"], [0, 1]), body(lost, [0, 1]));
}

function fill(id, entries) {
  find(id).append(...entries.map(([value, words]) => make("option", { value }, words)));
  find(id).addEventListener("change", choose);
}

function writeChosen() {
  const task = find("task").value;
  const lines = run.curves.flatMap((curve) => (curve.sentences[task] ?? []).map((line) => (run.curves.length > 1 ? `${curve.name}: ${line}` : line)));
  find("sentences").replaceChildren(...lines.map((line) => make("li", {}, line)));
  const shapes = ["Shape", "Active", "Total", "1 − K/E", "TPP", "Failed", "Training loss", ...Object.values(run.measures)];
  find("shapes").replaceChildren(tableHead(shapes, [0]), body(run.table[task] ?? [], [0]));
  const points = run.points.filter((point) => valueOf(point, task, find("measure").value));
  const few = points.some((point) => valueOf(point, task, find("measure").value).low === null);
  find("legend-note").textContent = few ? "No intervals: fewer than three seeds." : "Bars: 95 % t intervals over seeds, unpaired; a cross is a dense model. The tests pair seeds and see smaller differences than these bars.";
}

function figures(colour) {
  const task = find("task").value;
  const along = find("along").value;
  const gap = (measure) => alongFigure(run, task, measure, along, colour, false);
  const loss = [task, "loss"];
  return {
    curve: gap(find("measure").value),
    "chain-loss": chainFigure(run, ["training", "loss"], loss, ["training loss", "task loss"], colour),
    "chain-accuracy": chainFigure(run, loss, [task, "accuracy"], ["task loss", "accuracy"], colour),
    "gap-generalisation": gap("generalisation_gap"),
    "gap-accuracy": gap("loss_accuracy_gap"),
    ...(run.audited ? Object.fromEntries(AUDITED.map((name) => [`audit-${name}`, alongFigure(run, "audit", name, "experts", colour, true)])) : {}),
  };
}

function draw() {
  if (!window.Plotly || !run.tasks.length) return;
  for (const [id, { traces, layout }] of Object.entries(figures(colours()))) {
    Plotly.react(find(id), traces, layout, { displayModeBar: false, responsive: true });
    find(id).dataset.drawn = String(Number(find(id).dataset.drawn ?? 0) + 1);
  }
}

function choose() {
  writeChosen();
  draw();
}

fill("task", run.tasks.map((task) => [task, label(task, 40)]));
fill("measure", Object.entries(run.measures));
fill("along", Object.entries(ALONG));
writeWords();
writeSummary();
writeTables();
writeChosen();
find("audit-part").hidden = !run.audited;
document.addEventListener("DOMContentLoaded", () => watchTheme(draw));
