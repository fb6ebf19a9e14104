// The page of an alignment: sentences, accuracy by domain, training curves.

const run = JSON.parse(find("data").textContent);
const CURVES = ["loss", "cross_entropy", "penalty", "gradient_norm"];
const points = (value) => `${value < 0 ? "−" : "+"}${(100 * Math.abs(value)).toFixed(1)}`;
const percent = (value) => `${(100 * value).toFixed(1)} %`;

function writeWords() {
  writeTitle(run.title);
  writeItems("sentences", run.sentences);
  writePairs("facts", run.facts);
}

function writeAccuracy() {
  const head = ["Domain", "Questions", "Before", "After", "Difference, points", "Gained", "Lost"];
  const difference = (row) => points(row.difference) + (row.interval ? ` ${showEnds(row.interval, points)}` : "");
  const cells = (row) => [named(row.domain), String(row.questions), percent(row.before), percent(row.after), difference(row), String(row.gained), String(row.lost)];
  find("accuracy").append(tableHead(head, [0]), tableBody(run.accuracy.map(cells), [0]));
}

/** Difference in accuracy of each domain with its interval, the overall one marked; dashed: no difference. */
function differencesFigure(color) {
  const rows = [...run.accuracy].reverse();
  const reach = (end) => rows.map((row) => (row.interval ? 100 * Math.abs(row.interval[end] - row.difference) : 0));
  const trace = {
    type: "scatter", mode: "markers", x: rows.map((row) => 100 * row.difference), y: rows.map((_, at) => at), marker: { color: rows.map((row) => (row.domain === "overall" ? color.mark : color.accent)), size: 8 },
    error_x: { type: "data", array: reach(1), arrayminus: reach(0), color: color.accent, thickness: 1.5 },
    text: rows.map((row) => `${plain(row.domain, 40)}: ${points(row.difference)} points of ${row.questions} questions`), hovertemplate: "%{text}" + HOVER,
  };
  const zero = { type: "line", yref: "paper", y0: 0, y1: 1, x0: 0, x1: 0, line: { color: color.floor, width: 1.5, dash: "dash" } };
  const names = { tickvals: rows.map((_, at) => at), ticktext: rows.map((row) => plain(row.domain, 18)) };
  return { traces: [trace], layout: frame(color, { shapes: [zero], xaxis: { title: { text: "points", standoff: 4 } }, yaxis: names }) };
}

function curveFigure(column, color) {
  const mode = run.curves.step.length > 1 ? "lines" : "markers";
  const trace = { type: "scatter", mode, x: run.curves.step, y: run.curves[column], line: { color: color.accent, width: 1.5 }, hovertemplate: "step %{x}: %{y:.4g}" + HOVER };
  return { traces: [trace], layout: frame(color, { xaxis: { title: { text: "step", standoff: 4 } }, yaxis: { nticks: 6 } }) };
}

function draw() {
  const color = colors();
  if (run.accuracy.length) drawFigure("differences", differencesFigure(color));
  if (run.curves) CURVES.forEach((column) => drawFigure(column, curveFigure(column, color)));
}

function setUp() {
  find("accuracy-part").hidden = !run.accuracy.length;
  find("curves-part").hidden = !run.curves;
  watchPrinting(watchTheme(draw));
}

writeWords();
writeAccuracy();
document.addEventListener("DOMContentLoaded", setUp);
