// Figures of a plan: its data in, Plotly's traces and layout out.

const REASONING_TPP = 20;
const LAW_DASHES = ["solid", "dash", "dot"];

/** Ticks 1, 2, 5 of each decade between low and high, thinned out where there are many. */
function decadeTicks(low, high) {
  const steps = Math.log10(high / low) > 2.2 ? [1] : Math.log10(high / low) > 1.1 ? [1, 3] : [1, 1.5, 2, 3, 5, 7];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1)
    ticks.push(...steps.map((step) => step * 10 ** power).filter((tick) => tick >= low * 0.999 && tick <= high * 1.001));
  return ticks;
}

/** A logarithmic axis of parameter counts. */
function sizeAxis(low, high) {
  const tickvals = decadeTicks(low, high);
  return { type: "log", range: [Math.log10(low), Math.log10(high)], tickvals, ticktext: tickvals.map(showCount) };
}

/** An upright line at x with its label at the foot, on the side with more room between low and high. */
function upright(x, words, line, dash, low, high) {
  const right = Math.log(x / low) > Math.log(high / x);
  return {
    shape: { type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: line, width: 1.5, dash } },
    note: { x: Math.log10(x), y: 0, yref: "paper", yanchor: "bottom", xanchor: right ? "right" : "left", xshift: right ? -3 : 3, text: words, showarrow: false, font: { color: line, size: 11 } },
  };
}

/** Shapes by total parameters (bottom) and tokens per parameter (top), a row for each number of chosen experts. */
function spaceFigure(run, color) {
  const all = [...run.points, ...run.left_out];
  const rows = [...new Set(all.map((point) => point.top_k))].sort((one, other) => one - other).map(String);
  const totals = [...all.map((point) => point.total), ...(run.memory ? [run.memory.total] : [])];
  const low = Math.min(...totals) / 1.35;
  const high = Math.max(...totals) * 1.35;
  const marks = (some, name, marker) => ({
    type: "scatter", mode: "markers", name, x: some.map((point) => point.total), y: some.map((point) => String(point.top_k)), marker,
    text: some.map((point) => `${plain(point.name, 60)}<br>${point.words}, TPP ${showCount(point.tpp)}${point.chosen.length ? `<br>recommended for ${point.chosen.join(" and ")}` : ""}`), hovertemplate: "%{text}" + HOVER,
  });
  const recommended = run.points.filter((point) => point.chosen.length);
  const target = run.tokens / REASONING_TPP;
  const lines = [
    ...(target > low && target < high ? [upright(target, "TPP 20", color.accent, "dash", low, high)] : []),
    ...(run.memory ? [upright(run.memory.total, run.memory.words, color.mark, "dot", low, high)] : []),
  ];
  const ticks = decadeTicks(run.tokens / high, run.tokens / low);
  return {
    traces: [
      marks(run.points, "fits", { size: 9, color: color.accent }),
      marks(run.left_out, "needs more memory", { size: 8, symbol: "x-thin", line: { color: color.floor, width: 2 } }),
      marks(recommended, "recommended", { size: 18, color: "rgba(0,0,0,0)", line: { color: color.mark, width: 2.5 } }),
      { type: "scatter", x: [low], y: [rows[0]], xaxis: "x2", mode: "markers", marker: { opacity: 0 }, hoverinfo: "skip", showlegend: false },
    ],
    layout: frame(color, {
      showlegend: true, legend: { orientation: "h", y: -0.28, yanchor: "top", x: 0, itemclick: false, itemdoubleclick: false },
      margin: { l: 52, r: 14, t: 46, b: 76 },
      shapes: lines.map((line) => line.shape), annotations: lines.map((line) => line.note),
      xaxis: { title: { text: "total parameters", standoff: 4 }, ...sizeAxis(low, high) },
      xaxis2: { overlaying: "x", side: "top", type: "log", range: [Math.log10(low), Math.log10(high)], tickvals: ticks.map((tick) => run.tokens / tick), ticktext: ticks.map(showCount), title: { text: "training tokens per parameter (TPP)", standoff: 4 }, showgrid: false, fixedrange: true },
      yaxis: { title: { text: "chosen experts K" }, type: "category", categoryorder: "array", categoryarray: rows, range: [-1.1, rows.length - 0.4] },
    }),
  };
}

/** Each law's loss above its own lowest along the experts of one shape; thin outside the range on which it was fitted. */
function curvesFigure(run, color) {
  const { points, name } = run.curves[0];
  const lines = [color.accent, color.mark, color.floor];
  const traces = run.laws.flatMap((law, at) => {
    const losses = points.map((point) => point.losses[law.name]);
    const known = losses.filter((loss) => loss !== null);
    if (known.length < 2) return [];
    const lowest = Math.min(...known);
    const inside = points.map((point, i) => (point.in_range[law.name] ? losses[i] - lowest : null));
    const style = { type: "scatter", mode: "lines", x: points.map((point) => point.total), connectgaps: false };
    const words = points.map((point, i) => `${law.name}: ${losses[i].toFixed(3)}, E ${point.experts}, TPP ${showCount(point.tpp)}${point.in_range[law.name] ? "" : "<br>outside its range"}`);
    return [
      { ...style, name: law.name, y: losses.map((loss) => loss - lowest), text: words, line: { color: lines[at], width: 1.6, dash: LAW_DASHES[at] }, hovertemplate: "%{text}" + HOVER },
      { ...style, name: `${law.name}, in range`, y: inside, showlegend: false, line: { color: lines[at], width: 4 }, hoverinfo: "skip" },
    ];
  });
  const totals = points.map((point) => point.total);
  const [low, high] = [Math.min(...totals) / 1.1, Math.max(...totals) * 1.1];
  const chosen = run.points.filter((point) => point.name === name).map((point) => upright(point.total, "recommended", color.mark, "dot", low, high));
  return {
    traces,
    layout: frame(color, {
      ...TOP_LEGEND, margin: { l: 60, r: 14, t: 34, b: 46 },
      shapes: chosen.map((line) => line.shape), annotations: chosen.map((line) => line.note),
      xaxis: { title: { text: "total parameters", standoff: 4 }, ...sizeAxis(low, high) },
      yaxis: { title: { text: "loss above the law’s lowest" }, rangemode: "tozero", nticks: 6 },
    }),
  };
}

/** A bar for each configuration: shares of embeddings, chosen experts, idle experts and the rest. */
function partsFigure(run, color) {
  const fills = [color.floor, color.mark, color.accent, color.faint];
  const sums = run.parts.map((bar) => bar.parts.reduce((sum, one) => sum + one.count, 0));
  const names = run.parts.map((bar, at) => `${plain(bar.name, 24)}<br>${showCount(sums[at])}`);
  const traces = run.parts[0].parts.map(({ part }, at) => ({
    type: "bar", orientation: "h", name: part, y: names, x: run.parts.map((bar, row) => bar.parts[at].count / sums[row]), marker: { color: fills[at], line: { color: color.panel, width: 1 } },
    text: run.parts.map((bar) => bar.parts[at].words), textposition: "inside", insidetextanchor: "middle", constraintext: "inside", textangle: 0,
    hovertemplate: `${part}: %{text}, %{x:.1%}` + HOVER,
  }));
  return {
    traces,
    layout: frame(color, {
      barmode: "stack", bargap: 0.35, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" }, margin: { l: 20, r: 24, t: 34, b: 40 },
      uniformtext: { minsize: 10, mode: "hide" },
      xaxis: { title: { text: "share of total parameters", standoff: 4 }, range: [0, 1], dtick: 0.25, tickformat: ".0%" },
      yaxis: { autorange: "reversed", showgrid: false },
    }),
  };
}
