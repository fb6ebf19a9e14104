"use strict";
// Figures: each function turns the run's data and what is chosen into Plotly's traces and layout. No text of the run's
// reaches Plotly but through plain(), since Plotly reads tags, links and entities in labels.

const SEQUENTIAL = "Viridis";
const DECADES = 4; // that the logarithmic colours span below the largest contribution
const SIGNED = [[0, "#b35806"], [0.25, "#fdb863"], [0.5, "#f7f7f7"], [0.75, "#8fb8de"], [1, "#1d5c9e"]];
const HOVER = "<extra></extra>";

/** Text short enough for a label: control and direction-changing characters out, at most `longest` characters. */
function label(text, longest = 28) {
  const tidy = String(text).slice(0, 4 * longest).replace(/[\p{Cc}\p{Cf}]/gu, " ");
  const letters = Array.from(tidy);
  const whole = letters.length <= longest && tidy.length === String(text).length;
  return whole ? tidy : letters.slice(0, longest - 1).join("") + "…";
}

/** A label that Plotly shows as it stands: entities for markup, its own direction kept to itself. */
function plain(text, longest) {
  const entity = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "%": "&#37;", "$": "&#36;" };
  return "\u2068" + label(text, longest).replace(/[&<>%$]/g, (letter) => entity[letter]) + "\u2069";
}

/** Numbers stored as base64 of little-endian float32, read when first asked for: row(i, j, …) is the innermost vector. */
function unpack(packed) {
  const width = packed.shape.at(-1);
  let numbers = null;
  return {
    shape: packed.shape,
    row: (...place) => {
      numbers ??= float32(packed.bytes);
      const start = place.reduce((sum, index, axis) => sum * packed.shape[axis] + index, 0);
      return numbers.subarray(start * width, (start + 1) * width);
    },
  };
}

function float32(base64) {
  const letters = atob(base64);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at += 1) bytes[at] = letters.charCodeAt(at); // several times Uint8Array.from
  return new Float32Array(bytes.buffer);
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  return new Proxy({}, { get: (_, name) => style.getPropertyValue(`--${String(name)}`).trim() });
}

function frame(colour, more = {}) {
  const axis = { gridcolor: colour.line, zerolinecolor: colour.line, linecolor: colour.line, automargin: true, fixedrange: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif', size: 12, color: colour.ink },
    margin: { l: 48, r: 12, t: 12, b: 44 },
    hoverlabel: { bgcolor: colour.panel, bordercolor: colour.line, font: { color: colour.ink }, align: "left" },
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

function colourBar(colour, title) {
  return { title: { text: title, side: "right" }, thickness: 10, outlinewidth: 0, tickfont: { color: colour.muted } };
}

/** Layer × expert map; dots for the committee, rings for other candidates, a square for the chosen expert. */
function mapFigure(run, chosen, colour, cell) {
  const names = run.layers.map((layer) => String(layer.layer));
  const rows = names.map((_, row) => run.map[chosen.kind].row(chosen.domain, row));
  const log = chosen.scale === "log";
  const most = run.most[chosen.kind] || 1; // of all domains: the colours stay when the domain changes
  const z = log ? rows.map((row) => Array.from(row, (value) => (value > 0 ? Math.log10(value) : NaN))) : rows;
  const mark = (pairs, name, marker) => ({
    type: "scatter", mode: "markers", name, x: pairs.map((pair) => pair[1]), y: pairs.map((pair) => names[pair[0]]), marker, hoverinfo: "skip",
  });
  const size = Math.max(4, Math.min(9, cell - 1));
  return {
    traces: [
      {
        type: "heatmap", z, x: Array.from(rows[0], (_, expert) => expert), y: names, colorscale: SEQUENTIAL, hoverongaps: false,
        customdata: rows, hovertemplate: "layer %{y}, expert %{x}: %{customdata:.4~g}" + HOVER,
        colorbar: { ...colourBar(colour, log ? "log₁₀ contribution" : "contribution"), x: 1.01 }, zmax: log ? Math.log10(most) : most, zmin: log ? Math.log10(most) - DECADES : 0,
      },
      mark(run.marks.candidates, "candidates", { size, symbol: "circle", color: "rgba(0,0,0,0)", line: { color: "#ffffff", width: 1.2 } }),
      mark(run.marks.members, "members", { size, symbol: "circle", color: "#ffffff", line: { color: "#14181c", width: 1.2 } }),
      mark([[chosen.row, chosen.expert]], "chosen", { size: size + 7, symbol: "square", color: "rgba(0,0,0,0)", line: { color: "#ff7a1a", width: 2.5 } }),
    ],
    layout: frame(colour, {
      margin: { l: 44, r: 10, t: 6, b: 40 },
      xaxis: { title: { text: "expert", standoff: 6 }, showgrid: false, zeroline: false, ...wholeTicks(rows[0].length), range: [-0.5, rows[0].length - 0.5] },
      yaxis: { title: { text: "layer", standoff: 6 }, type: "category", range: [names.length - 0.5, -0.5], showgrid: false, nticks: 25 },
    }),
  };
}

/** Mean and variance of rank of one layer's experts; a step line joins the committee. */
function planeFigure(run, chosen, colour) {
  const mean = run.experts.mean_rank.row(chosen.row);
  const variance = run.experts.rank_variance.row(chosen.row);
  const layer = run.layers[chosen.row];
  const members = layer.committee;
  const candidates = layer.candidates.filter((expert) => !members.includes(expert));
  const others = Array.from({ length: layer.experts }, (_, expert) => expert).filter((expert) => !layer.candidates.includes(expert) && !members.includes(expert));
  const stability = run.experts.candidate_stability.row(chosen.row);
  const stable = (expert) => (Number.isNaN(stability[expert]) ? 0.5 : stability[expert]);
  const said = (expert) => (Number.isNaN(stability[expert]) ? "" : `<br>candidate in ${Math.round(100 * stability[expert])} &#37; of resamples`);
  const points = (experts, name, { marker, ...more }) => ({
    type: "scatter", mode: "markers", name, x: experts.map((expert) => mean[expert]), y: experts.map((expert) => variance[expert]),
    marker: { ...marker, size: experts.map((expert) => marker.size * (0.6 + 0.8 * stable(expert))) },
    text: experts.map(String), meta: name, customdata: experts, hovertext: experts.map((expert) => `expert ${expert}, ${name}<br>mean rank ${mean[expert].toFixed(2)}, variance ${variance[expert].toFixed(2)}${said(expert)}`),
    hovertemplate: "%{hovertext}" + HOVER, ...more,
  });
  const highest = Math.max(...variance.filter((value) => !Number.isNaN(value))) || 1;
  const ordered = [...members].sort((one, other) => mean[one] - mean[other] || variance[other] - variance[one]);
  return {
    traces: [
      points(others, "neither", { marker: { size: 6, color: colour.faint, line: { color: colour.floor, width: 1 } } }),
      points(candidates, "candidate", { marker: { size: 9, color: "rgba(0,0,0,0)", line: { color: colour.accent, width: 2 } } }),
      points(ordered, "committee", {
        mode: "lines+markers+text", textposition: "top right", textfont: { color: colour.mark },
        line: { shape: "hv", color: colour.mark, width: 1, dash: "dot" }, marker: { size: 11, symbol: "diamond", color: colour.mark },
      }),
    ],
    layout: frame(colour, {
      showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 48, r: 12, t: 30, b: 44 },
      xaxis: { title: { text: "mean rank μ over domains" }, range: [0.5, layer.top_k + 1.5], ...wholeTicks(layer.top_k + 1, 12) },
      yaxis: { title: { text: "variance of rank σ²" }, range: [-0.06 * highest, 1.08 * highest] },
    }),
  };
}

/** Lorenz curve of the chosen layer before those of the others. */
function lorenzFigure(run, chosen, colour) {
  const share = (curve) => Array.from(curve, (_, position) => position / (curve.length - 1));
  const joined = { x: [], y: [] };
  run.lorenz.filter((curve) => curve.length).forEach((curve) => {
    joined.x.push(...share(curve), null);
    joined.y.push(...curve, null);
  });
  const curve = run.lorenz[chosen.row];
  return {
    traces: [
      { type: "scatter", mode: "lines", name: "other layers", ...joined, line: { color: colour.faint, width: 1 }, hoverinfo: "skip" },
      { type: "scatter", mode: "lines", name: "equal use", x: [0, 1], y: [0, 1], line: { color: colour.floor, width: 1.5, dash: "dash" }, hoverinfo: "skip" },
      { type: "scatter", mode: "lines", name: "this layer", x: share(curve), y: curve, line: { color: colour.accent, width: 2.5 }, hovertemplate: "the least used %{x:.0%} take %{y:.1%}" + HOVER },
    ],
    layout: frame(colour, {
      margin: { l: 48, r: 24, t: 12, b: 44 },
      xaxis: { title: { text: "share of experts, least used first" }, range: [0, 1], tickformat: ".0%", dtick: 0.25 },
      yaxis: { title: { text: "share of contribution" }, range: [0, 1.01], tickformat: ".0%", dtick: 0.25 },
    }),
  };
}

function domainAxis(run, longest, shown = true) {
  const names = run.domains.map((name) => plain(name, longest));
  return { tickvals: names.map((_, index) => index), ticktext: names, showticklabels: shown, showgrid: false, zeroline: false };
}

/** Overlap of domains in the chosen layer. */
function jaccardFigure(run, chosen, colour, narrow) {
  const names = run.domains.map((name) => plain(name, 40));
  const places = names.map((_, index) => index);
  const z = places.map((place) => run.jaccard.row(chosen.row, place));
  const longest = narrow ? 12 : 18;
  return {
    traces: [{
      type: "heatmap", z, x: places, y: places, zmin: 0, zmax: 1, colorscale: SEQUENTIAL, xgap: 1, ygap: 1, hoverongaps: false,
      text: places.map((row) => places.map((column) => `${names[row]} and ${names[column]}`)),
      hovertemplate: "%{text}: %{z:.3f}" + HOVER, colorbar: colourBar(colour, ""),
    }],
    layout: frame(colour, {
      margin: { l: 20, r: 8, t: 8, b: 20 },
      xaxis: { ...domainAxis(run, longest, run.domains.length <= 30), tickangle: -45 },
      yaxis: { ...domainAxis(run, longest, run.domains.length <= 30), autorange: "reversed" },
    }),
  };
}

/** Specificity: layers across, domains down. */
function specificityFigure(run, colour, narrow) {
  const names = run.domains.map((name) => plain(name, 40));
  const z = run.domains.map((_, domain) => run.specificity.values.map((row) => row[domain]));
  const bound = run.domains.map((_, domain) => run.specificity.intervals.map((row) => row[domain]));
  const said = bound.map((row) => row.map((ends) => (ends ? ` ${showEnds(ends)}` : ", no interval")));
  const open = bound.flatMap((row, domain) => row.flatMap((ends, layer) => (!ends || (ends[0] <= 0 && ends[1] >= 0) ? [[layer, domain]] : [])));
  const largest = Math.max(0.01, ...z.flat().map((value) => Math.abs(value ?? 0)));
  const layers = run.layers.map((layer) => String(layer.layer));
  return {
    traces: [{
      type: "heatmap", z, x: layers, y: names.map((_, index) => index), zmin: -largest, zmax: largest, colorscale: SIGNED, xgap: 1, ygap: 1,
      hoverongaps: false, text: names.map((name, domain) => layers.map((_, layer) => name)), customdata: said, hovertemplate: "layer %{x}, %{text}: %{z:.3f}%{customdata}" + HOVER,
      colorbar: colourBar(colour, ""),
    }, {
      type: "scatter", mode: "markers", name: "cannot be told from 0", x: open.map(([layer]) => layers[layer]), y: open.map(([, domain]) => domain), hoverinfo: "skip",
      marker: { symbol: "x-thin", size: layers.length > 24 ? 5 : 8, line: { color: "#22272d", width: 1 } },
    }],
    layout: frame(colour, {
      margin: { l: 20, r: 8, t: 8, b: 40 },
      xaxis: { title: { text: "layer" }, type: "category", nticks: 17, showgrid: false },
      yaxis: { ...domainAxis(run, narrow ? 14 : 28), autorange: "reversed" },
    }),
  };
}

/** Contribution of the chosen expert by domain. */
function cardFigure(run, chosen, colour, narrow) {
  const places = run.domains.map((_, index) => index);
  const ranks = places.map((place) => run.ranks.row(place, chosen.row)[chosen.expert]);
  const values = places.map((place) => run.map[chosen.kind].row(place + 1, chosen.row)[chosen.expert]);
  const ends = run.bounds && chosen.kind === run.kind ? run.bounds.map((bound) => places.map((place) => bound.row(place, chosen.row)[chosen.expert])) : null;
  const reach = (side) => values.map((value, place) => (ends && !Number.isNaN(ends[side][place]) ? Math.abs(ends[side][place] - value) : 0));
  return {
    traces: [{
      type: "bar", orientation: "h", y: places, x: values,
      error_x: { type: "data", symmetric: false, array: reach(1), arrayminus: reach(0), color: colour.ink, thickness: 1.2, width: 3, visible: Boolean(ends) },
      marker: { color: places.map((place) => (place + 1 === chosen.domain ? colour.mark : colour.accent)) },
      text: run.domains.map((name) => plain(name, 40)), textposition: "none", customdata: ranks,
      hovertemplate: "%{text}: %{x:.4~g}, rank %{customdata}" + HOVER,
    }],
    layout: frame(colour, {
      margin: { l: 20, r: 12, t: 4, b: 36 }, bargap: 0.3,
      xaxis: { title: { text: "contribution", standoff: 4 }, nticks: 6, rangemode: "tozero" },
      yaxis: { ...domainAxis(run, narrow ? 14 : 28), autorange: "reversed" },
    }),
  };
}
