// The table of layers: each measure with interval and nulls, sorted by any column.

const SHORT_VERDICTS = { "dominant committee": "dominant", core: "core", none: "none", "cannot tell": "cannot tell" };
const SAME_SHAPE = run.layers.every((layer) => ["experts", "top_k", "shared"].every((name) => layer[name] === run.layers[0][name])); // then the header has it
const COLUMNS = [
  { key: "layer", name: "Layer" },
  { key: "claim", name: "Claim", note: "verdict", by: (row) => VERDICTS.indexOf(row.claim) },
  ...(SAME_SHAPE ? [] : [{ key: "experts", name: "Experts", note: "K of E, shared" }]),
  { key: "committee", name: "Committee", note: "by mean rank", by: (row) => row.committee.length },
  { key: "candidates", name: "Candidates", by: (row) => row.candidates.length },
  ...run.measures.map(({ name, label: title, floor, description }) => ({ key: name, name: title, note: floor && `floor ${floor}`, title: description, by: (row) => row[name].value })),
];

/** A measure of a layer: value, interval, nulls, and for shares a bar with ticks at floor and rotated router. */
function measureCell(row, measure) {
  const figure = row[measure.name];
  const write = (value) => inFormat(value, measure.format);
  const cell = make("td", { className: "measure" }, make("span", { className: "value" }, write(figure.value)));
  if (figure.value === null) return cell;
  const nulls = nullsOf(figure, measure.format);
  cell.append(make("span", { className: "interval", title: "95 % interval" }, figure.interval ? showEnds(figure.interval, write) : "no interval"));
  cell.append(...(nulls.length ? nulls : ["no null"]).map((words) => make("span", { className: "null" }, words)));
  if (isShare(measure)) cell.append(measureBar(figure));
  return cell;
}

function measureBar(figure) {
  const track = make("span", { className: "track" }, make("i"));
  track.firstChild.style.width = `${100 * Math.max(0, Math.min(1, figure.value))}%`;
  for (const [value, tag] of [[figure.floor, "b"], [figure.rotated, "u"]]) {
    if (value === null) continue;
    track.append(make(tag));
    track.lastChild.style.left = `${100 * Math.min(1, value)}%`;
  }
  return track;
}

function layerRow(row, index) {
  const number = make("button", { type: "button", "aria-label": `Show layer ${row.layer}` }, String(row.layer));
  number.addEventListener("click", () => { selectLayer(index); find("detail").scrollIntoView(); });
  const candidates = make("td", { className: "list" }, listExperts(row.candidates));
  if (row.fallback) candidates.prepend(make("span", { className: "flag", title: "No expert is in the first K of enough domains; these are the most frequent ones. A fallback supports no claim." }, "fallback "));
  const verdict = row.claim ? `${run.symbols[row.claim]} ${SHORT_VERDICTS[row.claim]}` : "–";
  const shape = `${row.top_k} of ${row.experts}${row.shared ? ` + ${row.shared}` : ""}`;
  return make("tr", { className: index === selected.row ? "chosen" : "" },
    make("td", {}, number), make("td", { className: "left" }, verdict), ...(SAME_SHAPE ? [] : [make("td", {}, shape)]),
    make("td", { className: "list" }, listExperts(row.committee)), candidates, ...run.measures.map((measure) => measureCell(row, measure)));
}

/** Indices of the layers in the order of the table; undefined values are last in either direction. */
function sortedRows() {
  const column = COLUMNS.find((entry) => entry.key === order.column);
  const value = (row) => (column.by ? column.by(row) : row[column.key]);
  const sign = order.down ? -1 : 1;
  const compare = (one, other) => {
    const [a, b] = [value(run.layers[one]), value(run.layers[other])];
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (a - b) || one - other;
  };
  return run.layers.map((_, index) => index).sort(compare);
}

function columnHead(column) {
  const sorted = order.column === column.key;
  const button = make("button", { type: "button" }, column.name + (sorted ? (order.down ? " ↓" : " ↑") : ""));
  button.addEventListener("click", () => {
    Object.assign(order, { column: column.key, down: sorted ? !order.down : column.key !== "layer" });
    writeTable();
    find("table").querySelectorAll("th button")[COLUMNS.indexOf(column)].focus();
  });
  const isText = ["claim", "committee", "candidates"].includes(column.key);
  const cell = make("th", { scope: "col", className: isText ? "left" : "", title: column.title ?? "" }, button, make("small", {}, column.note ?? "\u00a0"));
  cell.setAttribute("aria-sort", sorted ? (order.down ? "descending" : "ascending") : "none");
  return cell;
}

function writeTable() {
  const rows = sortedRows().map((index) => layerRow(run.layers[index], index));
  find("table").replaceChildren(make("thead", {}, make("tr", {}, ...COLUMNS.map(columnHead))), make("tbody", {}, ...rows));
}
