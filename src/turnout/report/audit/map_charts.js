// Figures of the map and of one expert: data and selection in, Plotly's traces and layout out.

const DECADES = 4; // range of the logarithmic colors, below the largest contribution

/** Layer × expert map; dots for the committee, rings for other candidates, a square for the selected expert. */
function mapFigure(run, selected, color, cell) {
  const names = run.layers.map((layer) => String(layer.layer));
  const rows = names.map((_, row) => run.map[selected.kind].row(selected.domain, row));
  const log = selected.scale === "log";
  const most = run.most[selected.kind] || 1; // over all domains, so that colors are the same for each
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
        colorbar: { ...colorBar(color, log ? "log₁₀ contribution" : "contribution"), x: 1.01 }, zmax: log ? Math.log10(most) : most, zmin: log ? Math.log10(most) - DECADES : 0,
      },
      mark(run.marks.candidates, "candidates", { size, symbol: "circle", color: "rgba(0,0,0,0)", line: { color: "#ffffff", width: 1.2 } }),
      mark(run.marks.members, "members", { size, symbol: "circle", color: "#ffffff", line: { color: "#14181c", width: 1.2 } }),
      mark([[selected.row, selected.expert]], "selected", { size: size + 7, symbol: "square", color: "rgba(0,0,0,0)", line: { color: "#ff7a1a", width: 2.5 } }),
    ],
    layout: frame(color, {
      margin: { l: 44, r: 10, t: 6, b: 40 },
      xaxis: { title: { text: "expert", standoff: 6 }, showgrid: false, zeroline: false, ...wholeTicks(rows[0].length), range: [-0.5, rows[0].length - 0.5] },
      yaxis: { title: { text: "layer", standoff: 6 }, type: "category", range: [names.length - 0.5, -0.5], showgrid: false, nticks: 25 },
    }),
  };
}

/** An axis of domains; tick labels are left out where `shown` is false. */
function domainAxis(run, longest, shown = true) {
  const names = run.domains.map((name) => plain(name, longest));
  return { tickvals: names.map((_, index) => index), ticktext: names, showticklabels: shown, showgrid: false, zeroline: false };
}

/** Contribution of the selected expert by domain, with intervals where the kind is the audited one. */
function cardFigure(run, selected, color, narrow) {
  const places = run.domains.map((_, index) => index);
  const ranks = places.map((place) => run.ranks.row(place, selected.row)[selected.expert]);
  const values = places.map((place) => run.map[selected.kind].row(place + 1, selected.row)[selected.expert]);
  const ends = run.bounds && selected.kind === run.kind ? run.bounds.map((bound) => places.map((place) => bound.row(place, selected.row)[selected.expert])) : null;
  const reach = (side) => values.map((value, place) => (ends && !Number.isNaN(ends[side][place]) ? Math.abs(ends[side][place] - value) : 0));
  return {
    traces: [{
      type: "bar", orientation: "h", y: places, x: values,
      error_x: { type: "data", symmetric: false, array: reach(1), arrayminus: reach(0), color: color.ink, thickness: 1.2, width: 3, visible: Boolean(ends) },
      marker: { color: places.map((place) => (place + 1 === selected.domain ? color.mark : color.accent)) },
      text: run.domains.map((name) => plain(name, 40)), textposition: "none", customdata: ranks,
      hovertemplate: "%{text}: %{x:.4~g}, rank %{customdata}" + HOVER,
    }],
    layout: frame(color, {
      margin: { l: 20, r: 12, t: 4, b: 36 }, bargap: 0.3,
      xaxis: { title: { text: "contribution", standoff: 4 }, nticks: 6, rangemode: "tozero" },
      yaxis: { ...domainAxis(run, narrow ? 14 : 28), autorange: "reversed" },
    }),
  };
}
