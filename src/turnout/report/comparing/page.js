"use strict";
// The page of a comparison: words, tables, and one pair of figures a measure. All text goes in as text.

const run = JSON.parse(find("data").textContent);
const others = run.runs.map((_, at) => at).filter((at) => at !== run.reference);
const layers = run.layers.map((layer) => layer.layer);
const drawings = new Map();
const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "cross", "star"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];

/** Ink, symbol and dash of a run: told apart without colour too. */
function style(at, colour) {
  const inks = [colour.accent, colour.mark, "#7a5195", "#2a9d8f", "#c23b75", "#8a6d00"];
  return { ink: inks[at % inks.length], symbol: SYMBOLS[at % SYMBOLS.length], dash: DASHES[at % DASHES.length] };
}

const shift = (found) => (found ? `${signed(found.difference)}${found.interval ? ` [${signed(found.interval[0])}, ${signed(found.interval[1])}]` : " (no interval)"}` : "–");
const signed = (value) => (value < 0 ? "−" : "+") + show(Math.abs(value));
const named = (text, longest = 40) => make("bdi", { title: label(text, 300) }, label(text, longest));
const legend = { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 } };

function writeWords() {
  document.title = "Comparison · Turnout";
  run.runs.forEach((name, at) => find("title").append(at ? ", " : "", named(name), at === run.reference ? " (reference)" : ""));
  find("sentences").append(...run.sentences.map((line) => make("li", { dir: "auto" }, label(line, 400))));
  const head = ["Figure", ...others.map((at) => named(run.runs[at]))];
  const rows = run.measures.map((measure) => make("tr", {}, make("td", { className: "left" }, run.names[measure]), ...others.map((at) => make("td", {}, shift(run.overall[at].differences[measure])))));
  const same = others.map((at) => run.overall[at].agreement);
  const chosen = (found) => (found ? `${show(found.value)} ${showEnds(found.interval)}, by load alone ${show(found.by_load)}` : "–");
  if (run.agreements) rows.push(make("tr", {}, make("td", { className: "left" }, "Same experts a token"), ...same.map((found) => make("td", {}, chosen(found)))));
  find("overall").append(tableHead(head, [0]), make("tbody", {}, ...rows));
}

function writeCommittees() {
  const head = ["Layer", ...run.runs.map((name) => named(name)), ...(run.overlaps ? others.map((at) => make("span", {}, named(run.runs[at]), " alike")) : [])];
  const alike = (found) => (found ? `${show(found.jaccard)}${found.interval ? ` ${showEnds(found.interval)}` : ""}, p ${showP(found.p)}` : "–");
  const rows = run.layers.map((layer) => make("tr", {}, make("td", {}, String(layer.layer)),
    ...layer.committee.map((members, at) => make("td", { className: "list" }, (layer.matched[at] === layer.layer ? "" : `layer ${layer.matched[at]}: `) + members.join(", ") + (layer.fallback[at] ? " (fallback)" : ""))),
    ...(run.overlaps ? others.map((at) => make("td", {}, alike(layer.overlap[at]))) : [])));
  find("committees").append(tableHead(head, run.runs.map((_, at) => at + 1)), make("tbody", {}, ...rows));
}

function layerAxis() {
  return { title: { text: "layer", standoff: 4 }, ...wholeTicks(layers.at(-1) - layers[0] + 1, 12), range: depth(layers) };
}

function valuesFigure(measure, colour) {
  const traces = run.runs.map((name, at) => {
    const { ink, symbol, dash } = style(at, colour);
    return { type: "scatter", mode: "lines+markers", name: plain(name, 20), x: layers, y: run.layers.map((layer) => layer[measure][at]), line: { color: ink, dash, width: 2 }, marker: { size: 6, symbol }, hovertemplate: `${plain(name, 20)}, layer %{x}: %{y:.3f}` + HOVER };
  });
  return { traces, layout: frame(colour, { ...legend, margin: { l: 48, r: 8, t: 30, b: 38 }, xaxis: layerAxis(), yaxis: { rangemode: "tozero", nticks: 6 } }) };
}

function shiftsFigure(measure, colour) {
  const traces = others.flatMap((at) => {
    const found = run.layers.map((layer) => layer.differences[measure][at]);
    const { ink, symbol, dash } = style(at, colour);
    const band = bandTraces(layers, found.map((of) => of?.interval ?? null), { accent: ink });
    return [...band, { type: "scatter", mode: "lines+markers", name: plain(run.runs[at], 20), x: layers, y: found.map((of) => of?.difference ?? null), line: { color: ink, dash, width: 2 }, marker: { size: 6, symbol }, text: found.map(shift), hovertemplate: `${plain(run.runs[at], 20)}, layer %{x}: %{text}` + HOVER }];
  });
  const zero = { type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: colour.floor, width: 1.5, dash: "dash" } };
  return { traces, layout: frame(colour, { margin: { l: 56, r: 8, t: 30, b: 38 }, shapes: [zero], xaxis: layerAxis(), yaxis: { nticks: 6 } }) };
}

function agreementFigure(colour) {
  const traces = others.flatMap((at) => {
    const found = run.layers.map((layer) => layer.agreement[at]);
    const { ink, symbol, dash } = style(at, colour);
    const line = (name, values, more) => ({ type: "scatter", mode: "lines", name, x: layers, y: values, hovertemplate: `${name}, layer %{x}: %{y:.3f}` + HOVER, ...more });
    const title = plain(run.runs[at], 20);
    return [...bandTraces(layers, found.map((of) => of?.interval ?? null), { accent: ink }),
      line(`${title} by load alone`, found.map((of) => of?.by_load ?? null), { line: { color: ink, dash: "dot", width: 1.5 }, showlegend: false }),
      line(title, found.map((of) => of?.value ?? null), { mode: "lines+markers", line: { color: ink, dash, width: 2 }, marker: { size: 6, symbol } })];
  }).map((trace) => ("hoverinfo" in trace ? { ...trace, showlegend: false } : trace));
  return { traces, layout: frame(colour, { ...legend, margin: { l: 48, r: 8, t: 30, b: 38 }, xaxis: layerAxis(), yaxis: { range: [0, 1.02], tickformat: ".0%" } }) };
}

function draw() {
  const colour = colours();
  for (const [id, build] of drawings) {
    const { traces, layout } = build(colour);
    Plotly.react(find(id), traces, layout, { displayModeBar: false, responsive: true });
    find(id).dataset.drawn = "1";
  }
}

function setUp() {
  for (const measure of run.measures) {
    for (const [kind, title, build] of [["values", run.names[measure], valuesFigure], ["shifts", `${run.names[measure]}: difference from the reference`, shiftsFigure]]) {
      const id = `${kind}-${measure}`;
      find("figures").append(make("div", {}, make("h3", {}, title), make("figure", { id, className: "figure", role: "img", "aria-label": `${title}, layer by layer` })));
      drawings.set(id, (colour) => build(measure, colour));
    }
  }
  find("agreement-part").hidden = !run.agreements;
  if (run.agreements) drawings.set("agreement", agreementFigure);
  watchTheme(draw);
}

writeWords();
writeCommittees();
document.addEventListener("DOMContentLoaded", setUp);
