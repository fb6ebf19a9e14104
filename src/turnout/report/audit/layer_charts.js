// Figures of one layer, and specificity: data and selection in, Plotly's traces and layout out.

const SIGNED = [[0, "#b35806"], [0.25, "#fdb863"], [0.5, "#f7f7f7"], [0.75, "#8fb8de"], [1, "#1d5c9e"]];

/** Mean and variance of rank of one layer's experts, larger for more stable candidates; a step line joins the committee. */
function planeFigure(run, selected, color) {
  const mean = run.experts.mean_rank.row(selected.row);
  const variance = run.experts.rank_variance.row(selected.row);
  const layer = run.layers[selected.row];
  const members = layer.committee;
  const candidates = layer.candidates.filter((expert) => !members.includes(expert));
  const others = Array.from({ length: layer.experts }, (_, expert) => expert).filter((expert) => !layer.candidates.includes(expert) && !members.includes(expert));
  const stability = run.experts.candidate_stability.row(selected.row);
  const stable = (expert) => (Number.isNaN(stability[expert]) ? 0.5 : stability[expert]);
  const stableWords = (expert) => (Number.isNaN(stability[expert]) ? "" : `<br>candidate in ${Math.round(100 * stability[expert])} &#37; of resamples`);
  const points = (experts, name, { marker, ...more }) => ({
    type: "scatter", mode: "markers", name, x: experts.map((expert) => mean[expert]), y: experts.map((expert) => variance[expert]),
    marker: { ...marker, size: experts.map((expert) => marker.size * (0.6 + 0.8 * stable(expert))) },
    text: experts.map(String), meta: name, customdata: experts, hovertext: experts.map((expert) => `expert ${expert}, ${name}<br>mean rank ${mean[expert].toFixed(2)}, variance ${variance[expert].toFixed(2)}${stableWords(expert)}`),
    hovertemplate: "%{hovertext}" + HOVER, ...more,
  });
  const highest = Math.max(...variance.filter((value) => !Number.isNaN(value))) || 1;
  const ordered = [...members].sort((one, other) => mean[one] - mean[other] || variance[other] - variance[one]);
  return {
    traces: [
      points(others, "neither", { marker: { size: 6, color: color.faint, line: { color: color.floor, width: 1 } } }),
      points(candidates, "candidate", { marker: { size: 9, color: "rgba(0,0,0,0)", line: { color: color.accent, width: 2 } } }),
      points(ordered, "committee", {
        mode: "lines+markers+text", textposition: "top right", textfont: { color: color.mark },
        line: { shape: "hv", color: color.mark, width: 1, dash: "dot" }, marker: { size: 11, symbol: "diamond", color: color.mark },
      }),
    ],
    layout: frame(color, {
      ...TOP_LEGEND, margin: { l: 48, r: 12, t: 30, b: 44 },
      xaxis: { title: { text: "mean rank μ over domains" }, range: [0.5, layer.top_k + 1.5], ...wholeTicks(layer.top_k + 1, 12) },
      yaxis: { title: { text: "variance of rank σ²" }, range: [-0.06 * highest, 1.08 * highest] },
    }),
  };
}

/** Lorenz curve of the selected layer in front of those of the other layers. */
function lorenzFigure(run, selected, color) {
  const share = (curve) => Array.from(curve, (_, position) => position / (curve.length - 1));
  const joined = { x: [], y: [] };
  run.lorenz.filter((curve) => curve.length).forEach((curve) => {
    joined.x.push(...share(curve), null);
    joined.y.push(...curve, null);
  });
  const curve = run.lorenz[selected.row];
  return {
    traces: [
      { type: "scatter", mode: "lines", name: "other layers", ...joined, line: { color: color.faint, width: 1 }, hoverinfo: "skip" },
      { type: "scatter", mode: "lines", name: "equal use", x: [0, 1], y: [0, 1], line: { color: color.floor, width: 1.5, dash: "dash" }, hoverinfo: "skip" },
      { type: "scatter", mode: "lines", name: "this layer", x: share(curve), y: curve, line: { color: color.accent, width: 2.5 }, hovertemplate: "least used %{x:.0%}: %{y:.1%} of the contribution" + HOVER },
    ],
    layout: frame(color, {
      margin: { l: 48, r: 24, t: 12, b: 44 },
      xaxis: { title: { text: "share of experts, least used first" }, range: [0, 1], tickformat: ".0%", dtick: 0.25 },
      yaxis: { title: { text: "share of contribution" }, range: [0, 1.01], tickformat: ".0%", dtick: 0.25 },
    }),
  };
}

/** Jaccard overlap of each two domains in the selected layer. */
function jaccardFigure(run, selected, color, narrow) {
  const names = run.domains.map((name) => plain(name, 40));
  const places = names.map((_, index) => index);
  const z = places.map((place) => run.jaccard.row(selected.row, place));
  const longest = narrow ? 12 : 18;
  return {
    traces: [{
      type: "heatmap", z, x: places, y: places, zmin: 0, zmax: 1, colorscale: SEQUENTIAL, xgap: 1, ygap: 1, hoverongaps: false,
      text: places.map((row) => places.map((column) => `${names[row]} and ${names[column]}`)),
      hovertemplate: "%{text}: %{z:.3f}" + HOVER, colorbar: colorBar(color, ""),
    }],
    layout: frame(color, {
      margin: { l: 20, r: 8, t: 8, b: 20 },
      xaxis: { ...domainAxis(run, longest, run.domains.length <= 30), tickangle: -45 },
      yaxis: { ...domainAxis(run, longest, run.domains.length <= 30), autorange: "reversed" },
    }),
  };
}

/** Specificity: layers across, domains down; a cross where the interval includes 0 or there is none. */
function specificityFigure(run, color, narrow) {
  const names = run.domains.map((name) => plain(name, 40));
  const z = run.domains.map((_, domain) => run.specificity.values.map((row) => row[domain]));
  const bound = run.domains.map((_, domain) => run.specificity.intervals.map((row) => row[domain]));
  const intervals = bound.map((row) => row.map((ends) => (ends ? ` ${showEnds(ends)}` : ", no interval")));
  const uncertain = bound.flatMap((row, domain) => row.flatMap((ends, layer) => (!ends || (ends[0] <= 0 && ends[1] >= 0) ? [[layer, domain]] : [])));
  const largest = Math.max(0.01, ...z.flat().map((value) => Math.abs(value ?? 0)));
  const layers = run.layers.map((layer) => String(layer.layer));
  return {
    traces: [{
      type: "heatmap", z, x: layers, y: names.map((_, index) => index), zmin: -largest, zmax: largest, colorscale: SIGNED, xgap: 1, ygap: 1,
      hoverongaps: false, text: names.map((name, domain) => layers.map((_, layer) => name)), customdata: intervals, hovertemplate: "layer %{x}, %{text}: %{z:.3f}%{customdata}" + HOVER,
      colorbar: colorBar(color, ""),
    }, {
      type: "scatter", mode: "markers", name: "interval includes 0", x: uncertain.map(([layer]) => layers[layer]), y: uncertain.map(([, domain]) => domain), hoverinfo: "skip",
      marker: { symbol: "x-thin", size: layers.length > 24 ? 5 : 8, line: { color: "#22272d", width: 1 } },
    }],
    layout: frame(color, {
      margin: { l: 20, r: 8, t: 8, b: 40 },
      xaxis: { title: { text: "layer" }, type: "category", nticks: 17, showgrid: false },
      yaxis: { ...domainAxis(run, narrow ? 14 : 28), autorange: "reversed" },
    }),
  };
}
