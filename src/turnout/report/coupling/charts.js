"use strict";
// Figures of a measured coupling: the run's data and what is chosen in, Plotly's traces and layout out.

/** Numbers stored as 16-bit shares of their largest: row(i) is one row. */
function unpackShares(packed) {
  const bytes = Uint8Array.from(atob(packed.bytes), (letter) => letter.charCodeAt(0));
  const shares = new Uint16Array(bytes.buffer);
  const width = packed.shape.at(-1);
  const unit = packed.largest / 65535;
  return { side: width, row: (i) => Array.from(shares.subarray(i * width, (i + 1) * width), (share) => share * unit) };
}

/** M of one layer, raw or for rows and gates of length 1. */
function matrixOf(run, index, scale) {
  const { side, row } = run.unpacked[index];
  const rows = Array.from({ length: side }, (_, i) => row(i));
  if (scale === "raw") return rows;
  const { router_norm: router, gate_norm: gate } = run.experts[index];
  return rows.map((values, i) => values.map((value, j) => (router[i] && gate[j] ? value / (router[i] * gate[j]) : 0)));
}

/** Each entry by the largest of its row or column; as it is for "none". */
function relative(matrix, normalise) {
  if (normalise === "none") return matrix;
  if (normalise === "row") return matrix.map((row) => row.map((value) => value / (Math.max(...row) || 1)));
  const largest = matrix[0].map((_, j) => Math.max(...matrix.map((row) => row[j])) || 1);
  return matrix.map((row) => row.map((value, j) => value / largest[j]));
}

/** [row, column] of the largest entry of every row (of every column). */
function largestOf(matrix, byColumn) {
  const lines = byColumn ? matrix[0].map((_, j) => matrix.map((row) => row[j])) : matrix;
  return lines.map((line, i) => { const at = line.indexOf(Math.max(...line)); return byColumn ? [at, i] : [i, at]; });
}

/** One layer's M; the diagonal outlined, the largest of each row (or column) marked. */
function couplingMap(run, chosen, colour, side) {
  const matrix = matrixOf(run, chosen.row, chosen.scale);
  const n = matrix.length;
  const z = relative(matrix, chosen.normalise);
  const most = chosen.normalise === "none" ? Math.max(...z.map((row) => Math.max(...row))) || 1 : 1;
  const least = chosen.normalise === "none" ? 0 : Math.min(0.95, ...z.map((row) => Math.min(...row))); // shares of the largest lie close together
  const marks = chosen.marks ? largestOf(matrix, chosen.normalise === "column") : [];
  const own = marks.filter(([i, j]) => i === j);
  const other = marks.filter(([i, j]) => i !== j);
  const cell = (side - 90) / n;
  const size = Math.max(2.5, Math.min(9, cell * 0.45));
  const points = (pairs, title, marker) => ({ type: "scatter", mode: "markers", name: title, x: pairs.map((pair) => pair[1]), y: pairs.map((pair) => pair[0]), hoverinfo: "skip", marker: { size, ...marker } });
  const traces = [
    { type: "heatmap", z, customdata: matrix, zmin: least, zmax: most, colorscale: SEQUENTIAL, hovertemplate: "row %{y}, expert %{x}: %{customdata:.4~g}" + HOVER, colorbar: colourBar(colour, chosen.normalise === "none" ? run.scale_names[chosen.scale] : "share of the largest"), x0: 0, y0: 0, dx: 1, dy: 1 },
    points(own, "own entry the largest", { symbol: "circle", color: "#ffffff", line: { color: "#14181c", width: 1 } }),
    points(other, "another the largest", { symbol: "x-thin", line: { color: "#ff7a1a", width: Math.max(1, Math.min(2, cell / 6)) } }),
  ];
  if (chosen.expert !== null) traces.push({ type: "scatter", mode: "markers", name: "chosen", x: [chosen.expert[1]], y: [chosen.expert[0]], hoverinfo: "skip", marker: { size: Math.max(9, cell), symbol: "square", color: "rgba(0,0,0,0)", line: { color: "#ff7a1a", width: 2.5 } } });
  const axis = { ...wholeTicks(n, 12), showgrid: false, zeroline: false };
  return {
    traces,
    layout: frame(colour, {
      margin: { l: 46, r: 8, t: 30, b: 40 }, showlegend: chosen.marks, legend: { orientation: "h", y: 1.005, yanchor: "bottom", x: 0, itemclick: false, itemdoubleclick: false },
      shapes: n <= 128 ? [{ type: "line", x0: -0.5, y0: -0.5, x1: n - 0.5, y1: n - 0.5, line: { color: "rgba(255,255,255,0.35)", width: 1 } }] : [],
      xaxis: { title: { text: "expert", standoff: 4 }, ...axis, range: [-0.5, n - 0.5], constrain: "domain" },
      yaxis: { title: { text: "router row", standoff: 4 }, ...axis, range: [n - 0.5, -0.5], scaleanchor: "x", constrain: "domain" },
    }),
  };
}

function layersAxis(run) {
  const layers = run.layers.map((layer) => layer.layer);
  return { title: { text: "layer", standoff: 4 }, ...wholeTicks(layers.at(-1) - layers[0] + 1, 12), range: depth(layers) };
}

/** A figure along depth: band, random pairings dotted, marks filled where p ≤ 0.05, the chosen layer ringed. */
function pairingFigure(run, figures, chosen, colour, more = {}) {
  const x = run.layers.map((layer) => layer.layer);
  const passed = figures.map((of) => of.p !== null && of.p <= 0.05);
  const line = (values, style) => ({ type: "scatter", mode: "lines", x, y: values, ...style });
  return {
    traces: [
      ...bandTraces(x, figures.map((of) => of.interval), colour).map((trace) => ({ ...trace, showlegend: false })),
      line(figures.map((of) => of.expected), { mode: x.length > 1 ? "lines" : "markers", name: "random pairings", marker: { symbol: "line-ew", size: 14, line: { color: colour.mark, width: 2 } }, line: { color: colour.mark, dash: "dot", width: 2 }, hovertemplate: "random pairings %{y:.4~g}" + HOVER }),
      line(figures.map((of) => of.value), {
        mode: "lines+markers", name: "measured", line: { color: colour.accent, width: 2 }, text: figures.map((of) => `${of.interval ? ` ${showEnds(of.interval)}` : ""}, p ${showSmall(of.p)}`),
        marker: { size: 8, color: passed.map((yes) => (yes ? colour.accent : colour.panel)), line: { color: colour.accent, width: 1.5 } }, hovertemplate: "layer %{x}: %{y:.4~g}%{text}" + HOVER,
      }),
      { type: "scatter", mode: "markers", x: [x[chosen.row]], y: [figures[chosen.row].value], hoverinfo: "skip", showlegend: false, marker: { size: 15, color: "rgba(0,0,0,0)", line: { color: colour.mark, width: 2 } } },
      ...(more.traces ?? []),
    ],
    layout: frame(colour, { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 52, r: 8, t: 32, b: 38 }, xaxis: layersAxis(run), yaxis: { rangemode: "tozero", nticks: 6, ...more.yaxis } }),
  };
}

const showSmall = (p) => (p === null || p === undefined ? "–" : p < 0.001 ? p.toExponential(0) : p.toFixed(3));

/** The paper's layers 0 to 11, laid over this model's depth from its first layer to its last. */
function paperTrace(run, colour) {
  const layers = run.layers.map((layer) => layer.layer);
  const place = (i) => layers[0] + (i / (run.paper.length - 1)) * (layers.at(-1) - layers[0]);
  return {
    type: "scatter", mode: "lines+markers", name: "paper, 3B without ERC", x: run.paper.map((_, i) => place(i)), y: run.paper, customdata: run.paper.map((_, i) => i),
    line: { color: colour.floor, dash: "dash", width: 1.5 }, marker: { size: 5, symbol: "diamond", color: colour.floor }, hovertemplate: "paper, layer %{customdata}: %{y:.2f}" + HOVER,
  };
}

function lossFigure(run, chosen, colour) {
  const figures = run.layers.map((layer) => layer[chosen.scale].loss[0]);
  const comparable = chosen.scale === "raw" && run.alphas[0] === 1 && run.layers.length > 1;
  return pairingFigure(run, figures, chosen, colour, { traces: comparable ? [paperTrace(run, colour)] : [] });
}

function alphasFigure(run, chosen, colour) {
  const of = (layer, what) => layer[chosen.scale].loss.map((loss) => loss[what]);
  const mean = (what) => run.alphas.map((_, at) => run.layers.reduce((sum, layer) => sum + of(layer, what)[at], 0) / run.layers.length);
  const line = (y, title, style) => ({ type: "scatter", mode: "lines", name: title, x: run.alphas, y, hovertemplate: `${title}, α %{x}: %{y:.3~g}` + HOVER, ...style });
  return {
    traces: [
      ...run.layers.map((layer, index) => line(of(layer, "value"), `layer ${layer.layer}`, { showlegend: false, line: { color: index === chosen.row ? colour.mark : colour.faint, width: index === chosen.row ? 2 : 1 } })),
      line(mean("expected"), "random pairings", { line: { color: colour.mark, dash: "dot", width: 2 } }),
      line(mean("value"), "measured", { mode: "lines+markers", line: { color: colour.accent, width: 3 }, marker: { size: 7 } }),
    ],
    layout: frame(colour, { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 52, r: 8, t: 32, b: 38 }, xaxis: { title: { text: "α", standoff: 4 }, tickvals: run.alphas }, yaxis: { rangemode: "tozero", nticks: 6 } }),
  };
}

function boundFigure(run, chosen, colour) {
  const points = run.layers.flatMap((layer, index) => run.experts[index].noise_bound.map((value, expert) => [layer.layer, value, expert]));
  const x = run.layers.map((layer) => layer.layer);
  return {
    traces: [
      { type: "scatter", mode: "markers", name: "expert", x: points.map((p) => p[0]), y: points.map((p) => p[1]), customdata: points.map((p) => p[2]), marker: { size: 5, color: faded(colour.accent, 0.35) }, hovertemplate: "layer %{x}, expert %{customdata}: ε %{y:.3f}" + HOVER },
      { type: "scatter", mode: "lines+markers", name: "mean", x, y: run.layers.map((layer) => layer.noise_bound.value), text: run.layers.map((layer) => showEnds(layer.noise_bound.interval)), line: { color: colour.ink, width: 1.5 }, marker: { size: 7, symbol: "diamond", color: colour.ink }, hovertemplate: "layer %{x}: mean ε %{y:.3f} %{text}" + HOVER },
    ],
    layout: frame(colour, { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 52, r: 8, t: 32, b: 38 }, xaxis: layersAxis(run), yaxis: { rangemode: "tozero", nticks: 6 } }),
  };
}

/** A figure of real tokens along depth, beside chance and what the loads alone give. */
function tokensFigure(run, measure, chosen, colour) {
  const x = run.layers.map((layer) => layer.layer);
  const figures = run.layers.map((layer) => layer.tokens[chosen.scale][measure]);
  const share = measure !== "correlation";
  const form = share ? "%{y:.1%}" : "%{y:.3f}";
  const line = (title, y, style) => ({ type: "scatter", mode: "lines", name: title, x, y, hovertemplate: `${title} ${form}` + HOVER, ...style });
  return {
    traces: [
      ...bandTraces(x, figures.map((of) => of.interval), colour).map((trace) => ({ ...trace, showlegend: false })),
      line("chance", figures.map((of) => of.expected), { line: { color: colour.floor, dash: "dash", width: 1.5 } }),
      ...(share ? [line("by load", figures.map((of) => of.by_load), { line: { color: colour.mark, dash: "dot", width: 2 } })] : []),
      line("measured", figures.map((of) => of.value), { mode: "lines+markers", line: { color: colour.accent, width: 2 }, marker: { size: 7 }, hovertemplate: `layer %{x}: ${form}` + HOVER }),
    ],
    layout: frame(colour, { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 52, r: 8, t: 32, b: 38 }, xaxis: layersAxis(run), yaxis: share ? { rangemode: "tozero", tickformat: ".0%", nticks: 6 } : { nticks: 6 } }),
  };
}

/** Draw M on a small canvas, a pixel an entry; the style sheet makes it larger. */
function drawThumbnail(canvas, matrix) {
  const n = matrix.length;
  canvas.width = canvas.height = n;
  const context = canvas.getContext("2d");
  const image = context.createImageData(n, n);
  const most = Math.max(...matrix.map((row) => Math.max(...row))) || 1;
  matrix.forEach((row, i) => row.forEach((value, j) => image.data.set([...viridis(value / most), 255], 4 * (i * n + j))));
  context.putImageData(image, 0, 0);
}

const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];

/** Plotly's Viridis between its fixed colours. */
function viridis(share) {
  const at = Math.max(0, Math.min(1, share)) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[low].map((value, channel) => Math.round(value + (at - low) * (VIRIDIS[low + 1][channel] - value)));
}
