// Figures of what stands behind the figures: intervals, nulls, domain signal, masking, budgets.

/** A colour of the style sheet, see-through. */
const faded = (hex, share) => `${hex}${Math.round(255 * share).toString(16).padStart(2, "0")}`;

/** The area between the lower and the upper ends of intervals along x; a gap where there is none. */
function bandTraces(x, intervals, colour) {
  const edge = (side, style) => ({
    type: "scatter", mode: "lines", x, y: intervals.map((interval) => interval?.[side] ?? null), line: { width: 0 }, hoverinfo: "skip", name: side ? "upper" : "lower", ...style,
  });
  return [edge(0, {}), edge(1, { fill: "tonexty", fillcolor: faded(colour.accent, 0.22) })];
}

/** One measure along depth: its band, its nulls, itself, and the chosen layer. */
function profileFigure(profile, name, chosenLayer, colour) {
  const line = (values, style) => ({ type: "scatter", mode: "lines", x: profile.layer, y: values, ...style });
  const dashed = (values, what, dash, ink) => line(values, { line: { color: ink, dash, width: 1.5 }, name: what, hovertemplate: `${what} %{y:.3f}` + HOVER });
  const at = profile.layer.indexOf(chosenLayer);
  const interval = profile.interval.map((ends) => (ends ? ` ${showEnds(ends)}` : ""));
  return {
    traces: [
      ...bandTraces(profile.layer, profile.interval, colour),
      dashed(profile.floor, "floor", "dash", colour.floor),
      dashed(profile.rotated, "rotated router, 95 %", "dot", colour.mark),
      dashed(profile.ceiling, "ceiling", "dashdot", colour.floor),
      line(profile.value, { mode: "lines+markers", name: "value", line: { color: colour.accent, width: 2 }, marker: { size: 4 }, text: interval, hovertemplate: "layer %{x}: %{y:.3f}%{text}" + HOVER }),
      line([profile.value[at]], { mode: "markers", x: [chosenLayer], marker: { size: 10, color: "rgba(0,0,0,0)", line: { color: colour.mark, width: 2 } }, hoverinfo: "skip" }),
    ],
    layout: frame(colour, {
      margin: { l: 38, r: 8, t: 8, b: 34 },
      xaxis: { title: { text: "layer", standoff: 4 }, ...wholeTicks(profile.layer.at(-1) - profile.layer[0] + 1, 8), range: depth(profile.layer) },
      yaxis: { rangemode: "tozero", nticks: 5, range: name === "influence_ratio" ? undefined : [0, 1.02] },
    }),
  };
}

/** The range of an axis of layers, with room for a mark on either end. */
function depth(layers) {
  const room = Math.max(0.3, (layers.at(-1) - layers[0]) * 0.025);
  return [layers[0] - room, layers.at(-1) + room];
}

/** A domain test along depth: its value, filled where p ≤ 0.05, against what permuted labels give. */
function signalFigure(signal, unit, chosenLayer, colour) {
  const line = (values, style) => ({ type: "scatter", mode: "lines", x: signal.layer, y: values, ...style });
  const passed = signal.p.map((p) => p !== null && p <= 0.05);
  const at = signal.layer.indexOf(chosenLayer);
  return {
    traces: [
      line(signal.null_mean, { line: { color: colour.floor, dash: "dash", width: 1.5 }, name: "permuted, mean", hovertemplate: "permuted, mean %{y:.3f}" + HOVER }),
      line(signal.null_q95, { line: { color: colour.mark, dash: "dot", width: 1.5 }, name: "permuted, 95 %", hovertemplate: "permuted, 95 % %{y:.3f}" + HOVER }),
      line(signal.value, {
        mode: "lines+markers", name: "value", line: { color: colour.accent, width: 1.5 }, text: signal.p.map(showP),
        marker: { size: 8, symbol: "circle", color: passed.map((yes) => (yes ? colour.accent : colour.panel)), line: { color: colour.accent, width: 1.5 } },
        hovertemplate: `layer %{x}: %{y:.3f} ${unit}, p %{text}` + HOVER,
      }),
      line([signal.value[at]], { mode: "markers", x: [chosenLayer], marker: { size: 14, color: "rgba(0,0,0,0)", line: { color: colour.mark, width: 2 } }, hoverinfo: "skip" }),
    ],
    layout: frame(colour, {
      margin: { l: 52, r: 8, t: 8, b: 36 },
      xaxis: { title: { text: "layer", standoff: 4 }, ...wholeTicks(signal.layer.at(-1) - signal.layer[0] + 1, 12), range: depth(signal.layer) },
      yaxis: { title: { text: unit }, nticks: 6 },
    }),
  };
}

/** What each masked set cost beside its controls: bands for random sets, ticks for the prediction, marks with intervals. */
function maskingFigure(entry, colour) {
  const rows = entry.rows;
  const y = rows.map((_, index) => index);
  const random = rows.map((row) => row.random);
  const points = (name, values, marker, more = {}) => ({ type: "scatter", mode: "markers", name, x: values, y, marker, hovertemplate: `${name}: %{x:.4f}` + HOVER, ...more });
  const symbols = rows.map((row) => (row.set === "committee" ? "diamond" : "circle"));
  const reach = (side) => rows.map((row) => (row.interval ? Math.abs(row.interval[side] - row.drop) : 0));
  return {
    traces: [
      { type: "bar", orientation: "h", name: "random sets, 5 to 95 %", y, base: random.map((of) => of?.q05 ?? 0), x: random.map((of) => (of ? of.q95 - of.q05 : 0)), marker: { color: colour.faint }, width: 0.55, hoverinfo: "skip" },
      points("random sets, mean", random.map((of) => of?.mean ?? null), { symbol: "line-ns", size: 12, line: { color: colour.floor, width: 2 } }),
      points("sets of equal mass, mean", rows.map((row) => row.matched?.mean ?? null), { symbol: "x-thin", size: 8, line: { color: colour.floor, width: 2 } }),
      points("least used", rows.map((row) => row.least), { symbol: "circle-open", size: 7, color: colour.floor }),
      points("predicted at its mass", rows.map((row) => row.predicted), { symbol: "line-ns", size: 16, line: { color: colour.mark, width: 3 } }),
      points("masked set", rows.map((row) => row.drop), { symbol: symbols, size: 10, color: colour.accent }, {
        error_x: { type: "data", symmetric: false, array: reach(1), arrayminus: reach(0), color: colour.accent, thickness: 1.5, width: 4 },
      }),
    ],
    layout: frame(colour, {
      showlegend: true, legend: { orientation: "h", y: 1.01, yanchor: "bottom", x: 0 }, margin: { l: 20, r: 12, t: 30, b: 40 }, barmode: "overlay",
      xaxis: { title: { text: "how much worse than unmasked", standoff: 4 } },
      yaxis: { tickvals: y, ticktext: rows.map((row) => `${row.layer === "all" ? "all layers" : `layer ${row.layer}`}, ${row.set}`), range: [rows.length - 0.4, -0.6], showgrid: false, zeroline: false },
    }),
  };
}

/** One figure of the budget sweep: recut and rerun over K, the model's own K marked. */
function budgetFigure(budgets, name, colour) {
  const dash = { recut: "dash", rerun: "solid" };
  const line = (mode) => ({
    type: "scatter", mode: "lines+markers", name: mode, x: budgets.k, y: budgets.modes[mode][name], hovertemplate: `K = %{x}, ${mode}: %{y:.3f}` + HOVER,
    line: { color: mode === "rerun" ? colour.accent : colour.mark, dash: dash[mode], width: 2 }, marker: { size: 7, symbol: mode === "rerun" ? "circle" : "diamond-open" },
  });
  return {
    traces: Object.keys(budgets.modes).map(line),
    layout: frame(colour, {
      showlegend: true, legend: { orientation: "h", y: 1.01, yanchor: "bottom", x: 0 }, margin: { l: 44, r: 10, t: 26, b: 36 },
      shapes: budgets.own_k.map((k) => ({ type: "line", x0: k, x1: k, yref: "paper", y0: 0, y1: 1, line: { color: colour.floor, width: 1, dash: "dot" } })),
      xaxis: { title: { text: "K", standoff: 4 }, tickvals: budgets.k },
      yaxis: { rangemode: "tozero", nticks: 5, range: name === "retention" ? [0, 1.05] : undefined },
    }),
  };
}
