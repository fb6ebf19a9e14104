// The page of a comparison: sentences, tables, and two figures for each measure: values, and differences.

const run = JSON.parse(find("data").textContent);
const others = run.runs.map((_, at) => at).filter((at) => at !== run.reference);
const layers = run.layers.map((layer) => layer.layer);
const figures = new Map();
const MARGIN = { l: 52, r: 8, t: 30, b: 38 };

function difference(shift) {
  if (!shift) return "–";
  return `${signed(shift.difference)} ${shift.interval ? showEnds(shift.interval, signed) : "(no interval)"}`;
}

function agreementWords(agreement) {
  return agreement ? `${show(agreement.value)} ${showEnds(agreement.interval)}, by load alone ${show(agreement.by_load)}` : "–";
}

function writeWords() {
  document.title = "Comparison · Turnout";
  run.runs.forEach((name, at) => find("title").append(at ? ", " : "", named(name, 40), at === run.reference ? " (reference)" : ""));
  writeItems("sentences", run.sentences);
  const rows = run.measures.map((measure) => [measure.label, ...others.map((at) => difference(run.overall[at].differences[measure.name]))]);
  if (run.agreements) rows.push(["Same experts per token", ...others.map((at) => agreementWords(run.overall[at].agreement))]);
  find("overall").append(tableHead(["Measure", ...others.map((at) => named(run.runs[at], 40))], [0]), tableBody(rows, [0]));
}

function writeCommittees() {
  const overlaps = run.overlaps ? others : [];
  const head = ["Layer", ...run.runs.map((name) => named(name, 40)), ...overlaps.map((at) => make("span", {}, "overlap of ", named(run.runs[at], 40)))];
  const members = (layer, at) => (layer.matched[at] === layer.layer ? "" : `layer ${layer.matched[at]}: `) + layer.committee[at].join(", ") + (layer.fallback[at] ? " (fallback)" : "");
  const overlap = (value) => (value ? `${show(value.jaccard)}${value.interval ? ` ${showEnds(value.interval)}` : ""}, p ${showP(value.p)}` : "–");
  const rows = run.layers.map((layer) => [String(layer.layer), ...run.runs.map((_, at) => members(layer, at)), ...overlaps.map((at) => overlap(layer.overlap[at]))]);
  const lists = run.runs.map((_, at) => at + 1);
  find("committees").append(tableHead(head, lists), tableBody(rows, lists));
}

function curve(at, values, color, more = {}) {
  const { line, symbol, dash } = curveStyle(at, color);
  return { type: "scatter", mode: "lines+markers", name: plain(run.runs[at], 20), x: layers, y: values, line: { color: line, dash, width: 2 }, marker: { size: 6, symbol }, ...more };
}

/** A measure of every run along depth. */
function valuesFigure(measure, color) {
  const traces = run.runs.map((name, at) => curve(at, run.layers.map((layer) => layer[measure.name][at]), color, { hovertemplate: `${plain(name, 20)}, layer %{x}: %{y:${measure.format}}` + HOVER }));
  return { traces, layout: frame(color, { ...TOP_LEGEND, margin: MARGIN, xaxis: layerAxis(layers), yaxis: { rangemode: "tozero", nticks: 6 } }) };
}

/** The difference of every other run from the reference along depth, with its band; dashed: no difference. */
function differencesFigure(measure, color) {
  const traces = others.flatMap((at) => {
    const shifts = run.layers.map((layer) => layer.differences[measure.name][at]);
    const line = curve(at, shifts.map((shift) => shift?.difference ?? null), color, { text: shifts.map(difference), hovertemplate: `${plain(run.runs[at], 20)}, layer %{x}: %{text}` + HOVER });
    return [...bandTraces(layers, shifts.map((shift) => shift?.interval ?? null), line.line.color), line];
  });
  const zero = { type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: color.floor, width: 1.5, dash: "dash" } };
  return { traces, layout: frame(color, { margin: MARGIN, shapes: [zero], xaxis: layerAxis(layers), yaxis: { nticks: 6 } }) };
}

/** The share of a token's experts that are the same as in the reference, with its band; dotted: by load alone. */
function agreementFigure(color) {
  const traces = others.flatMap((at) => {
    const agreements = run.layers.map((layer) => layer.agreement[at]);
    const column = (name) => agreements.map((agreement) => agreement?.[name] ?? null);
    const hover = (name) => ({ hovertemplate: `${name}, layer %{x}: %{y:.3f}` + HOVER });
    const line = curve(at, column("value"), color, hover(plain(run.runs[at], 20)));
    const byLoad = curve(at, column("by_load"), color, { ...hover("by load alone"), mode: "lines", showlegend: false });
    return [...bandTraces(layers, column("interval"), line.line.color), { ...byLoad, line: { ...byLoad.line, dash: "dot", width: 1.5 } }, line];
  });
  return { traces, layout: frame(color, { ...TOP_LEGEND, margin: MARGIN, xaxis: layerAxis(layers), yaxis: { range: [0, 1.02], tickformat: ".0%" } }) };
}

function addFigure(id, title, build) {
  find("figures").append(make("div", {}, make("h3", {}, title), make("figure", { id, className: "figure", role: "img", "aria-label": `${title}, by layer` })));
  figures.set(id, build);
}

function draw() {
  const color = colors();
  for (const [id, build] of figures) drawFigure(id, build(color));
}

function setUp() {
  for (const measure of run.measures) {
    addFigure(`values-${measure.name}`, measure.label, (color) => valuesFigure(measure, color));
    addFigure(`differences-${measure.name}`, `${measure.label}: difference from the reference`, (color) => differencesFigure(measure, color));
  }
  find("agreement-part").hidden = !run.agreements;
  if (run.agreements) figures.set("agreement", agreementFigure);
  watchPrinting(watchTheme(draw));
}

writeWords();
writeCommittees();
document.addEventListener("DOMContentLoaded", setUp);
