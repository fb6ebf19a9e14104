// Figures of a measured coupling: data and selection in, Plotly's traces and layout out.

/** M of one layer as rows: raw, or for rows and gates of length 1. */
function matrixOf(run, index, scale) {
  const { side, row } = run.unpacked[index];
  const rows = Array.from({ length: side }, (_, i) => row(i));
  if (scale === "raw") return rows;
  const { router_norm: router, gate_norm: gate } = run.experts[index];
  return rows.map((values, i) => values.map((value, j) => (router[i] && gate[j] ? value / (router[i] * gate[j]) : 0)));
}

/** M with each entry divided by the largest of its row or column; unchanged for "none". */
function relative(matrix, normalize) {
  if (normalize === "none") return matrix;
  if (normalize === "row") return matrix.map((row) => row.map((value) => value / (Math.max(...row) || 1)));
  const largest = matrix[0].map((_, j) => Math.max(...matrix.map((row) => row[j])) || 1);
  return matrix.map((row) => row.map((value, j) => value / largest[j]));
}

/** [row, column] of the largest entry of every row (of every column). */
function largestOf(matrix, byColumn) {
  const lines = byColumn ? matrix[0].map((_, j) => matrix.map((row) => row[j])) : matrix;
  return lines.map((line, i) => { const at = line.indexOf(Math.max(...line)); return byColumn ? [at, i] : [i, at]; });
}

/** One layer's M as a heat map: the diagonal as a line, the largest of each row (or column) marked. */
function couplingMap(run, selected, color, side) {
  const matrix = matrixOf(run, selected.row, selected.scale);
  const n = matrix.length;
  const z = relative(matrix, selected.normalize);
  const most = selected.normalize === "none" ? Math.max(...z.map((row) => Math.max(...row))) || 1 : 1;
  const least = selected.normalize === "none" ? 0 : Math.min(0.95, ...z.map((row) => Math.min(...row))); // shares of the largest are close together
  const marks = selected.marks ? largestOf(matrix, selected.normalize === "column") : [];
  const own = marks.filter(([i, j]) => i === j);
  const other = marks.filter(([i, j]) => i !== j);
  const cell = (side - 90) / n;
  const size = Math.max(2.5, Math.min(9, cell * 0.45));
  const points = (pairs, title, marker) => ({ type: "scatter", mode: "markers", name: title, x: pairs.map((pair) => pair[1]), y: pairs.map((pair) => pair[0]), hoverinfo: "skip", marker: { size, ...marker } });
  const traces = [
    {
      type: "heatmap", z, customdata: matrix, zmin: least, zmax: most, colorscale: SEQUENTIAL, x0: 0, y0: 0, dx: 1, dy: 1,
      hovertemplate: "row %{y}, expert %{x}: %{customdata:.4~g}" + HOVER,
      colorbar: colorBar(color, selected.normalize === "none" ? run.scale_names[selected.scale] : "share of the largest"),
    },
    points(own, "own entry the largest", { symbol: "circle", color: "#ffffff", line: { color: "#14181c", width: 1 } }),
    points(other, "another the largest", { symbol: "x-thin", line: { color: "#ff7a1a", width: Math.max(1, Math.min(2, cell / 6)) } }),
  ];
  if (selected.expert !== null) traces.push({ type: "scatter", mode: "markers", name: "selected", x: [selected.expert[1]], y: [selected.expert[0]], hoverinfo: "skip", marker: { size: Math.max(9, cell), symbol: "square", color: "rgba(0,0,0,0)", line: { color: "#ff7a1a", width: 2.5 } } });
  const axis = { ...wholeTicks(n, 12), showgrid: false, zeroline: false };
  return {
    traces,
    layout: frame(color, {
      margin: { l: 46, r: 8, t: 30, b: 40 }, showlegend: selected.marks, legend: { orientation: "h", y: 1.005, yanchor: "bottom", x: 0, itemclick: false, itemdoubleclick: false },
      shapes: n <= 128 ? [{ type: "line", x0: -0.5, y0: -0.5, x1: n - 0.5, y1: n - 0.5, line: { color: "rgba(255,255,255,0.35)", width: 1 } }] : [],
      xaxis: { title: { text: "expert", standoff: 4 }, ...axis, range: [-0.5, n - 0.5], constrain: "domain" },
      yaxis: { title: { text: "router row", standoff: 4 }, ...axis, range: [n - 0.5, -0.5], scaleanchor: "x", constrain: "domain" },
    }),
  };
}

const layersOf = (run) => run.layers.map((layer) => layer.layer);

/** A figure along depth: band, random pairings dotted, marks filled where p ≤ 0.05, a ring around the selected layer. */
function pairingFigure(run, figures, selected, color, more = {}) {
  const x = layersOf(run);
  const passed = figures.map((figure) => figure.p !== null && figure.p <= 0.05);
  const line = (values, style) => ({ type: "scatter", mode: "lines", x, y: values, ...style });
  return {
    traces: [
      ...bandTraces(x, figures.map((figure) => figure.interval), color.accent),
      line(figures.map((figure) => figure.expected), {
        mode: x.length > 1 ? "lines" : "markers", name: "random pairings", line: { color: color.mark, dash: "dot", width: 2 },
        marker: { symbol: "line-ew", size: 14, line: { color: color.mark, width: 2 } }, hovertemplate: "random pairings %{y:.4~g}" + HOVER,
      }),
      line(figures.map((figure) => figure.value), {
        mode: "lines+markers", name: "measured", line: { color: color.accent, width: 2 }, text: figures.map((figure) => `${figure.interval ? ` ${showEnds(figure.interval)}` : ""}, p ${showSmallP(figure.p)}`),
        marker: { size: 8, color: passed.map((yes) => (yes ? color.accent : color.panel)), line: { color: color.accent, width: 1.5 } }, hovertemplate: "layer %{x}: %{y:.4~g}%{text}" + HOVER,
      }),
      { type: "scatter", mode: "markers", x: [x[selected.row]], y: [figures[selected.row].value], hoverinfo: "skip", showlegend: false, marker: { size: 15, color: "rgba(0,0,0,0)", line: { color: color.mark, width: 2 } } },
      ...(more.traces ?? []),
    ],
    layout: frame(color, { ...TOP_LEGEND, margin: { l: 52, r: 8, t: 32, b: 38 }, xaxis: layerAxis(layersOf(run)), yaxis: { rangemode: "tozero", nticks: 6, ...more.yaxis } }),
  };
}

const showSmallP = (p) => (isUndefined(p) ? "–" : p < 0.001 ? p.toExponential(0) : p.toFixed(3));

/** The paper's layers 0 to 11, stretched over this model's depth. */
function paperTrace(run, color) {
  const layers = layersOf(run);
  const place = (i) => layers[0] + (i / (run.paper.length - 1)) * (layers.at(-1) - layers[0]);
  return {
    type: "scatter", mode: "lines+markers", name: "paper, 3B without ERC", x: run.paper.map((_, i) => place(i)), y: run.paper, customdata: run.paper.map((_, i) => i),
    line: { color: color.floor, dash: "dash", width: 1.5 }, marker: { size: 5, symbol: "diamond", color: color.floor }, hovertemplate: "paper, layer %{customdata}: %{y:.2f}" + HOVER,
  };
}

/** The ERC loss at the first α along depth, with the paper's curve where it can be compared. */
function lossFigure(run, selected, color) {
  const figures = run.layers.map((layer) => layer[selected.scale].loss[0]);
  const comparable = selected.scale === "raw" && run.alphas[0] === 1 && run.layers.length > 1;
  return pairingFigure(run, figures, selected, color, { traces: comparable ? [paperTrace(run, color)] : [] });
}

/** The ERC loss against α: mean over layers, each layer, and random pairings. */
function alphasFigure(run, selected, color) {
  const column = (layer, name) => layer[selected.scale].loss.map((loss) => loss[name]);
  const mean = (name) => run.alphas.map((_, at) => run.layers.reduce((sum, layer) => sum + column(layer, name)[at], 0) / run.layers.length);
  const line = (y, title, style) => ({ type: "scatter", mode: "lines", name: title, x: run.alphas, y, hovertemplate: `${title}, α %{x}: %{y:.3~g}` + HOVER, ...style });
  return {
    traces: [
      ...run.layers.map((layer, index) => line(column(layer, "value"), `layer ${layer.layer}`, { showlegend: false, line: { color: index === selected.row ? color.mark : color.faint, width: index === selected.row ? 2 : 1 } })),
      line(mean("expected"), "random pairings", { line: { color: color.mark, dash: "dot", width: 2 } }),
      line(mean("value"), "measured", { mode: "lines+markers", line: { color: color.accent, width: 3 }, marker: { size: 7 } }),
    ],
    layout: frame(color, { ...TOP_LEGEND, margin: { l: 52, r: 8, t: 32, b: 38 }, xaxis: { title: { text: "α", standoff: 4 }, tickvals: run.alphas }, yaxis: { rangemode: "tozero", nticks: 6 } }),
  };
}

/** The noise bound of each expert, and its mean, along depth. */
function boundFigure(run, selected, color) {
  const points = run.layers.flatMap((layer, index) => run.experts[index].noise_bound.map((value, expert) => [layer.layer, value, expert]));
  const x = layersOf(run);
  return {
    traces: [
      { type: "scatter", mode: "markers", name: "expert", x: points.map((p) => p[0]), y: points.map((p) => p[1]), customdata: points.map((p) => p[2]), marker: { size: 5, color: faded(color.accent, 0.35) }, hovertemplate: "layer %{x}, expert %{customdata}: ε %{y:.3f}" + HOVER },
      {
        type: "scatter", mode: "lines+markers", name: "mean", x, y: run.layers.map((layer) => layer.noise_bound.value),
        line: { color: color.ink, width: 1.5 }, marker: { size: 7, symbol: "diamond", color: color.ink },
        text: run.layers.map((layer) => showEnds(layer.noise_bound.interval)), hovertemplate: "layer %{x}: mean ε %{y:.3f} %{text}" + HOVER,
      },
    ],
    layout: frame(color, { ...TOP_LEGEND, margin: { l: 52, r: 8, t: 32, b: 38 }, xaxis: layerAxis(layersOf(run)), yaxis: { rangemode: "tozero", nticks: 6 } }),
  };
}

/** A figure of real tokens along depth, beside chance and the value by load alone. */
function tokensFigure(run, measure, selected, color) {
  const x = layersOf(run);
  const figures = run.layers.map((layer) => layer.tokens[selected.scale][measure]);
  const share = measure !== "correlation";
  const form = share ? "%{y:.1%}" : "%{y:.3f}";
  const line = (title, y, style) => ({ type: "scatter", mode: "lines", name: title, x, y, hovertemplate: `${title} ${form}` + HOVER, ...style });
  return {
    traces: [
      ...bandTraces(x, figures.map((figure) => figure.interval), color.accent),
      line("chance", figures.map((figure) => figure.expected), { line: { color: color.floor, dash: "dash", width: 1.5 } }),
      ...(share ? [line("by load", figures.map((figure) => figure.by_load), { line: { color: color.mark, dash: "dot", width: 2 } })] : []),
      line("measured", figures.map((figure) => figure.value), { mode: "lines+markers", line: { color: color.accent, width: 2 }, marker: { size: 7 }, hovertemplate: `layer %{x}: ${form}` + HOVER }),
    ],
    layout: frame(color, { ...TOP_LEGEND, margin: { l: 52, r: 8, t: 32, b: 38 }, xaxis: layerAxis(layersOf(run)), yaxis: share ? { rangemode: "tozero", tickformat: ".0%", nticks: 6 } : { nticks: 6 } }),
  };
}

/** Draw M on a small canvas, one pixel for each entry; the style sheet enlarges it. */
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

/** The color of a share from 0 to 1 in Plotly's Viridis, interpolated. */
function viridis(share) {
  const at = Math.max(0, Math.min(1, share)) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[low].map((value, channel) => Math.round(value + (at - low) * (VIRIDIS[low + 1][channel] - value)));
}
