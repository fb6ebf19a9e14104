// Figures of a sweep: its data in, Plotly's traces and layout out.

const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "cross", "star"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const ALONG = { experts: "experts E", total: "total parameters", tpp: "training tokens per parameter (TPP)", chosen: "share of experts chosen, K/E" };

/** Ink, mark and dash of a curve: colour is never alone. */
function styleOf(at, colour) {
  return { ink: [colour.accent, colour.mark, colour.floor][at % 3], symbol: SYMBOLS[at % SYMBOLS.length], dash: DASHES[at % DASHES.length] };
}

const valueOf = (point, task, measure) => point.values[task]?.[measure] ?? null;

/** How far an interval reaches on both sides; nothing where there is none. */
function reach(values, colour) {
  const side = (end) => values.map((value) => (value.low === null ? 0 : Math.abs(value[end] - value.mean)));
  return { type: "data", symmetric: false, array: side("high"), arrayminus: side("low"), color: colour, thickness: 1.3, width: 3 };
}

const said = (value) => (value.low === null ? show(value.mean) : `${show(value.mean)} ${showEnds([value.low, value.high])}`);

/** Ticks at the grid's own points, thinned out until they are a tenth of the axis apart. */
function ownTicks(values, along) {
  const sorted = [...new Set(values)].sort((one, other) => one - other);
  const apart = 0.085 * Math.log(sorted.at(-1) / sorted[0]);
  const kept = [];
  for (const value of sorted) if (!kept.length || Math.log(value / kept.at(-1)) > apart) kept.push(value);
  const write = along === "chosen" ? (value) => String(Number(value.toPrecision(2))) : count;
  return { tickvals: kept, ticktext: kept.map(write) };
}

/** One measure of one task along the grid: a line a curve, a mark of its own for each dense model. */
function alongFigure(run, task, measure, along, colour, small) {
  const byName = new Map(run.points.map((point) => [point.name, point]));
  const known = (names) => names.map((name) => byName.get(name)).filter((point) => point[along] && valueOf(point, task, measure)?.mean !== undefined && valueOf(point, task, measure)?.mean !== null);
  const trace = (points, name, style, more) => {
    const values = points.map((point) => valueOf(point, task, measure));
    return {
      type: "scatter", name: plain(name, 80), x: points.map((point) => point[along]), y: values.map((value) => value.mean), error_y: reach(values, style.ink),
      text: points.map((point, at) => `${point.words}<br>${said(values[at])}, ${values[at].n} seeds`), hovertemplate: "%{text}" + HOVER, ...more,
    };
  };
  const lines = run.curves.map((curve, at) => {
    const style = styleOf(at, colour);
    return trace(known(curve.points), curve.name, style, { mode: "lines+markers", line: { color: style.ink, width: 2, dash: style.dash }, marker: { size: small ? 6 : 8, symbol: style.symbol, color: style.ink } });
  });
  const dense = known(run.dense).map((point, at) => trace([point], `dense: ${point.name}`, { ink: colour.ink }, { mode: "markers", marker: { size: 11, symbol: "x-thin", line: { color: colour.ink, width: 2.5 } } }));
  const traces = [...lines.filter((line) => line.x.length), ...(along === "chosen" ? [] : dense)];
  const values = traces.flatMap((one) => one.x);
  return {
    traces,
    layout: frame(colour, {
      showlegend: !small, legend: { orientation: "h", y: -0.24, yanchor: "top", x: 0 }, margin: { l: 58, r: 14, t: 10, b: small ? 40 : 50 },
      xaxis: { title: { text: small ? "experts E" : ALONG[along], standoff: 4 }, type: "log", ...(values.length ? ownTicks(values, along) : {}) },
      yaxis: { title: { text: small ? "" : run.units[measure] ?? "" }, nticks: 6, zeroline: measure.endsWith("gap") },
    }),
  };
}

/** One measure against another, a mark a shape. */
function chainFigure(run, across, up, names, colour) {
  const byName = new Map(run.points.map((point) => [point.name, point]));
  const groups = [...run.curves.map((curve) => [curve.name, curve.points]), ["dense", run.dense]];
  const traces = groups.map(([name, members], at) => {
    const style = name === "dense" ? { ink: colour.ink, symbol: "x-thin", dash: "solid" } : styleOf(at, colour);
    const points = members.map((member) => byName.get(member)).filter((point) => valueOf(point, ...across) && valueOf(point, ...up));
    const x = points.map((point) => valueOf(point, ...across));
    const y = points.map((point) => valueOf(point, ...up));
    return {
      type: "scatter", mode: "markers+text", name: plain(name, 80), x: x.map((value) => value.mean), y: y.map((value) => value.mean),
      error_x: reach(x, faded(style.ink, 0.5)), error_y: reach(y, faded(style.ink, 0.5)), marker: { size: 9, symbol: style.symbol, color: style.ink, line: { color: style.ink, width: name === "dense" ? 2.5 : 0 } },
      text: points.map((point) => (point.dense ? "dense" : String(point.experts))), textposition: "top right", textfont: { size: 10, color: style.ink },
      hovertext: points.map((point, i) => `${point.words}<br>${names[0]} ${said(x[i])}<br>${names[1]} ${said(y[i])}`), hovertemplate: "%{hovertext}" + HOVER,
    };
  });
  return {
    traces: traces.filter((trace) => trace.x.length),
    layout: frame(colour, { margin: { l: 58, r: 24, t: 14, b: 44 }, xaxis: { title: { text: names[0], standoff: 4 }, nticks: 6 }, yaxis: { title: { text: names[1] }, nticks: 6 } }),
  };
}
