// Parts of Plotly figures that several pages use. Text from a run goes through plain(): Plotly reads tags, links and
// entities in labels.

const SEQUENTIAL = "Viridis";
const HOVER = "<extra></extra>";
const TOP_LEGEND = { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 } };
const CURVE_SYMBOLS = ["circle", "square", "triangle-up", "diamond", "cross", "star"];
const CURVE_DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];

/** A label that Plotly shows as it is: entities in the place of markup, isolated from the direction around it. */
function plain(text, longest) {
  const entity = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "%": "&#37;", "$": "&#36;" };
  return "\u2068" + label(text, longest).replace(/[&<>%$]/g, (letter) => entity[letter]) + "\u2069";
}

/** The style sheet's colors by name, of the theme in use. */
function colors() {
  const style = getComputedStyle(document.documentElement);
  return new Proxy({}, { get: (_, name) => style.getPropertyValue(`--${String(name)}`).trim() });
}

/** A color of the style sheet, translucent. */
const faded = (hex, share) => `${hex}${Math.round(255 * share).toString(16).padStart(2, "0")}`;

/** Color, symbol and dash of the curve at a place: readable without color too. */
function curveStyle(at, color) {
  const lines = [color.accent, color.mark, "#7a5195", "#2a9d8f", "#c23b75", "#8a6d00"];
  return { line: lines[at % lines.length], symbol: CURVE_SYMBOLS[at % CURVE_SYMBOLS.length], dash: CURVE_DASHES[at % CURVE_DASHES.length] };
}

/** A layout in the page's colors. */
function frame(color, more = {}) {
  const axis = { gridcolor: color.line, zerolinecolor: color.line, linecolor: color.line, automargin: true, fixedrange: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif', size: 12, color: color.ink },
    margin: { l: 48, r: 12, t: 12, b: 44 },
    hoverlabel: { bgcolor: color.panel, bordercolor: color.line, font: { color: color.ink }, align: "left" },
    dragmode: false,
    showlegend: false,
    ...more,
    xaxis: { ...axis, ...more.xaxis },
    yaxis: { ...axis, ...more.yaxis },
  };
}

/** Ticks on whole numbers, at most `most` of them. */
function wholeTicks(count, most = 17) {
  return { tick0: 0, dtick: [1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100].find((step) => count <= step * most) ?? 128 };
}

/** The x axis of layers, with room for a mark at either end. */
function layerAxis(layers, most = 12) {
  const room = Math.max(0.3, (layers.at(-1) - layers[0]) * 0.025);
  return { title: { text: "layer", standoff: 4 }, ...wholeTicks(layers.at(-1) - layers[0] + 1, most), range: [layers[0] - room, layers.at(-1) + room] };
}

function colorBar(color, title) {
  return { title: { text: title, side: "right" }, thickness: 10, outlinewidth: 0, tickfont: { color: color.muted } };
}

/** The area between the ends of intervals along x; a gap where there is none. */
function bandTraces(x, intervals, line) {
  const edge = (side, style) => ({
    type: "scatter", mode: "lines", x, y: intervals.map((interval) => interval?.[side] ?? null), line: { width: 0 }, hoverinfo: "skip", name: side ? "upper" : "lower", showlegend: false, ...style,
  });
  return [edge(0, {}), edge(1, { fill: "tonexty", fillcolor: faded(line, 0.22) })];
}

/** Draw a figure in the element `id`, or draw it again; `data-drawn` counts how often. Returns the element. */
function drawFigure(id, { traces, layout }) {
  const node = find(id);
  Plotly.react(node, traces, layout, { displayModeBar: false, responsive: true });
  node.dataset.drawn = String(Number(node.dataset.drawn ?? 0) + 1);
  return node;
}
