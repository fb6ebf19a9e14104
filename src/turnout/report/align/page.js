"use strict";
// The page of an alignment: words, the accuracy by domain, the curves. All text goes in as text.

const run = JSON.parse(find("data").textContent);
const CURVES = ["loss", "cross_entropy", "penalty", "gradient_norm"];
const points = (value) => `${value < 0 ? "−" : "+"}${(100 * Math.abs(value)).toFixed(1)}`;
const percent = (value) => `${(100 * value).toFixed(1)} %`;

function writeWords() {
  document.title = "Alignment · Turnout";
  find("title").append(make("bdi", {}, label(run.title, 120)));
  find("sentences").append(...run.sentences.map((line) => make("li", { dir: "auto" }, label(line, 500))));
  find("facts").append(...run.facts.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, make("bdi", {}, label(value, 900)))]));
}

function writeAccuracy() {
  const head = ["Domain", "Questions", "Before", "After", "Difference, points", "Gained", "Lost"];
  const shift = (of) => points(of.difference) + (of.interval ? ` [${points(of.interval[0])}, ${points(of.interval[1])}]` : "");
  const rows = run.accuracy.map((of) => make("tr", {}, make("td", { className: "left" }, make("bdi", {}, label(of.domain, 60))), ...[String(of.questions), percent(of.before), percent(of.after), shift(of), String(of.gained), String(of.lost)].map((text) => make("td", {}, text))));
  find("accuracy").append(tableHead(head, [0]), make("tbody", {}, ...rows));
}

function differencesFigure(colour) {
  const rows = [...run.accuracy].reverse();
  const ends = (at) => rows.map((of) => (of.interval ? 100 * Math.abs(of.interval[at] - of.difference) : 0));
  const trace = { type: "scatter", mode: "markers", x: rows.map((of) => 100 * of.difference), y: rows.map((_, at) => at), marker: { color: rows.map((of) => (of.domain === "overall" ? colour.mark : colour.accent)), size: 8 }, error_x: { type: "data", array: ends(1), arrayminus: ends(0), color: colour.accent, thickness: 1.5 }, text: rows.map((of) => `${plain(of.domain, 40)}: ${points(of.difference)} points of ${of.questions} questions`), hovertemplate: "%{text}" + HOVER };
  const zero = { type: "line", yref: "paper", y0: 0, y1: 1, x0: 0, x1: 0, line: { color: colour.floor, width: 1.5, dash: "dash" } };
  const ticks = { tickvals: rows.map((_, at) => at), ticktext: rows.map((of) => plain(of.domain, 18)) };
  return { traces: [trace], layout: frame(colour, { shapes: [zero], xaxis: { title: { text: "points", standoff: 4 } }, yaxis: ticks }) };
}

function curveFigure(column, colour) {
  const trace = { type: "scatter", mode: run.curves.step.length > 1 ? "lines" : "markers", x: run.curves.step, y: run.curves[column], line: { color: colour.accent, width: 1.5 }, hovertemplate: "step %{x}: %{y:.4g}" + HOVER };
  return { traces: [trace], layout: frame(colour, { xaxis: { title: { text: "step", standoff: 4 } }, yaxis: { nticks: 6 } }) };
}

function draw() {
  if (!window.Plotly) return;
  const colour = colours();
  const figures = [];
  if (run.accuracy.length) figures.push(["differences", differencesFigure(colour)]);
  if (run.curves) figures.push(...CURVES.map((column) => [column, curveFigure(column, colour)]));
  for (const [id, { traces, layout }] of figures) {
    Plotly.react(find(id), traces, layout, { displayModeBar: false, responsive: true });
    find(id).dataset.drawn = "1";
  }
}

function setUp() {
  find("accuracy-part").hidden = !run.accuracy.length;
  find("curves-part").hidden = !run.curves;
  watchTheme(draw);
}

writeWords();
writeAccuracy();
document.addEventListener("DOMContentLoaded", setUp);
