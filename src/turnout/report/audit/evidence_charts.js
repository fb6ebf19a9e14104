// Figures of measures along depth, domain signal, masking and budgets.

/** One measure along depth: band of intervals, nulls, values, and a ring around the selected layer. */
function profileFigure(profile, measure, selectedLayer, color) {
  const line = (values, style) => ({ type: "scatter", mode: "lines", x: profile.layer, y: values, ...style });
  const dashed = (values, name, dash, ink) => line(values, { line: { color: ink, dash, width: 1.5 }, name, hovertemplate: `${name} %{y:${measure.format}}` + HOVER });
  const at = profile.layer.indexOf(selectedLayer);
  const interval = profile.interval.map((ends) => (ends ? ` ${showEnds(ends, (end) => inFormat(end, measure.format))}` : ""));
  return {
    traces: [
      ...bandTraces(profile.layer, profile.interval, color.accent),
      dashed(profile.floor, "floor", "dash", color.floor),
      dashed(profile.rotated, "rotated router, 95 %", "dot", color.mark),
      dashed(profile.ceiling, "ceiling", "dashdot", color.floor),
      line(profile.value, { mode: "lines+markers", name: "value", line: { color: color.accent, width: 2 }, marker: { size: 4 }, text: interval, hovertemplate: `layer %{x}: %{y:${measure.format}}%{text}` + HOVER }),
      line([profile.value[at]], { mode: "markers", x: [selectedLayer], marker: { size: 10, color: "rgba(0,0,0,0)", line: { color: color.mark, width: 2 } }, hoverinfo: "skip" }),
    ],
    layout: frame(color, {
      margin: { l: 38, r: 8, t: 8, b: 34 },
      xaxis: layerAxis(profile.layer, 8),
      yaxis: { rangemode: "tozero", nticks: 5, range: isShare(measure) ? [0, 1.02] : undefined },
    }),
  };
}

/** A test of domain labels along depth: values (filled where p ≤ 0.05), mean and 95 % quantile of permuted labels. */
function signalFigure(signal, unit, selectedLayer, color) {
  const line = (values, style) => ({ type: "scatter", mode: "lines", x: signal.layer, y: values, ...style });
  const passed = signal.p.map((p) => p !== null && p <= 0.05);
  const at = signal.layer.indexOf(selectedLayer);
  return {
    traces: [
      line(signal.null_mean, { line: { color: color.floor, dash: "dash", width: 1.5 }, name: "permuted, mean", hovertemplate: "permuted, mean %{y:.3f}" + HOVER }),
      line(signal.null_q95, { line: { color: color.mark, dash: "dot", width: 1.5 }, name: "permuted, 95 %", hovertemplate: "permuted, 95 % %{y:.3f}" + HOVER }),
      line(signal.value, {
        mode: "lines+markers", name: "value", line: { color: color.accent, width: 1.5 }, text: signal.p.map(showP),
        marker: { size: 8, symbol: "circle", color: passed.map((yes) => (yes ? color.accent : color.panel)), line: { color: color.accent, width: 1.5 } },
        hovertemplate: `layer %{x}: %{y:.3f} ${unit}, p %{text}` + HOVER,
      }),
      line([signal.value[at]], { mode: "markers", x: [selectedLayer], marker: { size: 14, color: "rgba(0,0,0,0)", line: { color: color.mark, width: 2 } }, hoverinfo: "skip" }),
    ],
    layout: frame(color, {
      margin: { l: 52, r: 8, t: 8, b: 36 },
      xaxis: layerAxis(signal.layer),
      yaxis: { title: { text: unit }, nticks: 6 },
    }),
  };
}

/** The cost of each masked set and of its controls: bands for random sets, ticks for the prediction, intervals. */
function maskingFigure(entry, color) {
  const rows = entry.rows;
  const y = rows.map((_, index) => index);
  const random = rows.map((row) => row.random);
  const points = (name, values, marker, more = {}) => ({ type: "scatter", mode: "markers", name, x: values, y, marker, hovertemplate: `${name}: %{x:.4f}` + HOVER, ...more });
  const symbols = rows.map((row) => (row.set === "committee" ? "diamond" : "circle"));
  const reach = (side) => rows.map((row) => (row.interval ? Math.abs(row.interval[side] - row.drop) : 0));
  return {
    traces: [
      { type: "bar", orientation: "h", name: "random sets, 5 to 95 %", y, base: random.map((set) => set?.q05 ?? 0), x: random.map((set) => (set ? set.q95 - set.q05 : 0)), marker: { color: color.faint }, width: 0.55, hoverinfo: "skip" },
      points("random sets, mean", random.map((set) => set?.mean ?? null), { symbol: "line-ns", size: 12, line: { color: color.floor, width: 2 } }),
      points("sets of equal mass, mean", rows.map((row) => row.matched?.mean ?? null), { symbol: "x-thin", size: 8, line: { color: color.floor, width: 2 } }),
      points("least used", rows.map((row) => row.least), { symbol: "circle-open", size: 7, color: color.floor }),
      points("predicted at its mass", rows.map((row) => row.predicted), { symbol: "line-ns", size: 16, line: { color: color.mark, width: 3 } }),
      points("masked set", rows.map((row) => row.drop), { symbol: symbols, size: 10, color: color.accent }, {
        error_x: { type: "data", symmetric: false, array: reach(1), arrayminus: reach(0), color: color.accent, thickness: 1.5, width: 4 },
      }),
    ],
    layout: frame(color, {
      ...TOP_LEGEND, margin: { l: 20, r: 12, t: 30, b: 40 }, barmode: "overlay",
      xaxis: { title: { text: "drop against the unmasked model", standoff: 4 } },
      yaxis: { tickvals: y, ticktext: rows.map((row) => `${row.layer === "all" ? "all layers" : `layer ${row.layer}`}, ${row.set}`), range: [rows.length - 0.4, -0.6], showgrid: false, zeroline: false },
    }),
  };
}

/** One curve of the budgets over K, recut and rerun; a thin line at the model's own K. */
function budgetFigure(budgets, name, color) {
  const dash = { recut: "dash", rerun: "solid" };
  const line = (mode) => ({
    type: "scatter", mode: "lines+markers", name: mode, x: budgets.k, y: budgets.modes[mode][name], hovertemplate: `K = %{x}, ${mode}: %{y:.3f}` + HOVER,
    line: { color: mode === "rerun" ? color.accent : color.mark, dash: dash[mode], width: 2 }, marker: { size: 7, symbol: mode === "rerun" ? "circle" : "diamond-open" },
  });
  return {
    traces: Object.keys(budgets.modes).map(line),
    layout: frame(color, {
      ...TOP_LEGEND, margin: { l: 44, r: 10, t: 26, b: 36 },
      shapes: budgets.own_k.map((k) => ({ type: "line", x0: k, x1: k, yref: "paper", y0: 0, y1: 1, line: { color: color.floor, width: 1, dash: "dot" } })),
      xaxis: { title: { text: "K", standoff: 4 }, tickvals: budgets.k },
      yaxis: { rangemode: "tozero", nticks: 5, range: name === "retention" ? [0, 1.05] : undefined },
    }),
  };
}
