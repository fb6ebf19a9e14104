// Figures of a sweep: its data in, Plotly's traces and layout out.

const ALONG = { experts: "experts E", total: "total parameters", tpp: "training tokens per parameter (TPP)", chosen: "share of experts chosen, K/E" };

const valueOf = (point, task, measure) => point.values[task]?.[measure] ?? null;

/** The value of a point's measure if it has a mean, else null. */
function meanOf(point, task, measure) {
  const value = valueOf(point, task, measure);
  return isUndefined(value?.mean) ? null : value;
}

/** Error bars of intervals; nothing where there is no interval. */
function errorBars(values, color) {
  const reach = (end) => values.map((value) => (value.low === null ? 0 : Math.abs(value[end] - value.mean)));
  return { type: "data", symmetric: false, array: reach("high"), arrayminus: reach("low"), color, thickness: 1.3, width: 3 };
}

const showBounded = (value) => (value.low === null ? show(value.mean) : `${show(value.mean)} ${showEnds([value.low, value.high])}`);

/** Ticks at the grid's own points, at least a tenth of the axis apart. */
function ownTicks(values, along) {
  const sorted = [...new Set(values)].sort((one, other) => one - other);
  const apart = 0.085 * Math.log(sorted.at(-1) / sorted[0]);
  const kept = [];
  for (const value of sorted) if (!kept.length || Math.log(value / kept.at(-1)) > apart) kept.push(value);
  const write = along === "chosen" ? (value) => String(Number(value.toPrecision(2))) : showCount;
  return { tickvals: kept, ticktext: kept.map(write) };
}

/** One measure of one task along the grid: a line for each curve, a mark for each dense model. */
function alongFigure(run, task, measure, along, color, small) {
  const byName = new Map(run.points.map((point) => [point.name, point]));
  const known = (names) => names.map((name) => byName.get(name)).filter((point) => point[along] && meanOf(point, task, measure));
  const trace = (points, name, line, more) => {
    const values = points.map((point) => valueOf(point, task, measure));
    return {
      type: "scatter", name: plain(name, 80), x: points.map((point) => point[along]), y: values.map((value) => value.mean), error_y: errorBars(values, line),
      text: points.map((point, at) => `${point.words}<br>${showBounded(values[at])}, ${values[at].n} seeds`), hovertemplate: "%{text}" + HOVER, ...more,
    };
  };
  const curves = run.curves.map((curve, at) => {
    const { line, symbol, dash } = curveStyle(at, color);
    return trace(known(curve.points), curve.name, line, { mode: "lines+markers", line: { color: line, width: 2, dash }, marker: { size: small ? 6 : 8, symbol, color: line } });
  });
  const cross = { mode: "markers", marker: { size: 11, symbol: "x-thin", line: { color: color.ink, width: 2.5 } } };
  const dense = along === "chosen" ? [] : known(run.dense).map((point) => trace([point], `dense: ${point.name}`, color.ink, cross));
  const traces = [...curves.filter((curve) => curve.x.length), ...dense];
  const values = traces.flatMap((one) => one.x);
  return {
    traces,
    layout: frame(color, {
      showlegend: !small, legend: { orientation: "h", y: -0.24, yanchor: "top", x: 0 }, margin: { l: 58, r: 14, t: 10, b: small ? 40 : 50 },
      xaxis: { title: { text: small ? "experts E" : ALONG[along], standoff: 4 }, type: "log", ...(values.length ? ownTicks(values, along) : {}) },
      yaxis: { title: { text: small ? "" : run.units[measure] ?? "" }, nticks: 6, zeroline: measure.endsWith("gap") },
    }),
  };
}

/** One measure against another, a mark for each shape with its number of experts. */
function chainFigure(run, across, up, names, color) {
  const byName = new Map(run.points.map((point) => [point.name, point]));
  const groups = [...run.curves.map((curve) => [curve.name, curve.points]), ["dense", run.dense]];
  const traces = groups.map(([name, members], at) => {
    const isDense = at === run.curves.length;
    const { line, symbol } = isDense ? { line: color.ink, symbol: "x-thin" } : curveStyle(at, color);
    const points = members.map((member) => byName.get(member)).filter((point) => valueOf(point, ...across) && valueOf(point, ...up));
    const [x, y] = [across, up].map((which) => points.map((point) => valueOf(point, ...which)));
    return {
      type: "scatter", mode: "markers+text", name: plain(name, 80), x: x.map((value) => value.mean), y: y.map((value) => value.mean),
      error_x: errorBars(x, faded(line, 0.5)), error_y: errorBars(y, faded(line, 0.5)), marker: { size: 9, symbol, color: line, line: { color: line, width: isDense ? 2.5 : 0 } },
      text: points.map((point) => (point.dense ? "dense" : String(point.experts))), textposition: "top right", textfont: { size: 10, color: line },
      hovertext: points.map((point, i) => `${point.words}<br>${names[0]} ${showBounded(x[i])}<br>${names[1]} ${showBounded(y[i])}`), hovertemplate: "%{hovertext}" + HOVER,
    };
  });
  return {
    traces: traces.filter((trace) => trace.x.length),
    layout: frame(color, { margin: { l: 58, r: 24, t: 14, b: 44 }, xaxis: { title: { text: names[0], standoff: 4 }, nticks: 6 }, yaxis: { title: { text: names[1] }, nticks: 6 } }),
  };
}
