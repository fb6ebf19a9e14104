// The page of a measured coupling: the selection, sentences, tables, and when a figure is drawn.

const run = JSON.parse(find("data").textContent);
run.unpacked = run.matrix.map(unpackShares);

const mostCoupled = run.layers.reduce((best, layer, index) => (layer.scale_free.rows.value > run.layers[best].scale_free.rows.value ? index : best), 0);
const selected = { row: mostCoupled, scale: "raw", normalize: "none", marks: true, expert: null };

const ofScale = (name) => run.layers.map((layer) => layer[selected.scale][name]);
const SHARES = { yaxis: { tickformat: ".0%" } };
const TOKENS = run.tasks ? ["agree", "first", "correlation"] : [];
const ALONG_DEPTH = ["rows", "columns", "loss", "alphas", "ratio"];
const figures = new Map([
  ["rows", (color) => pairingFigure(run, ofScale("rows"), selected, color, SHARES)],
  ["columns", (color) => pairingFigure(run, ofScale("columns"), selected, color, SHARES)],
  ["loss", (color) => lossFigure(run, selected, color)],
  ["alphas", (color) => alphasFigure(run, selected, color)],
  ["ratio", (color) => pairingFigure(run, ofScale("ratio"), selected, color)],
  ["bound", (color) => boundFigure(run, selected, color)],
  ["map", (color) => couplingMap(run, selected, color, find("map").clientWidth)],
  ...TOKENS.map((measure) => [measure, (color) => tokensFigure(run, measure, selected, color)]),
]);

// ---- figures

function draw(ids = figures.keys()) {
  if (!window.Plotly) return;
  const color = colors();
  for (const id of ids) {
    const node = drawFigure(id, figures.get(id)(color));
    if (node.dataset.drawn === "1") node.on("plotly_click", ({ points: [point] }) => selectPoint(id, point));
  }
}

function selectPoint(id, point) {
  if (id === "map") {
    if (point.curveNumber === 0) selectPair(point.y, point.x);
    return;
  }
  const index = run.layers.findIndex((layer) => layer.layer === point.x);
  if (index >= 0) selectLayer(index);
}

function writeThumbnails() {
  find("thumbnails").replaceChildren(...run.layers.map((layer, index) => {
    const canvas = make("canvas", {});
    drawThumbnail(canvas, matrixOf(run, index, selected.scale));
    const share = showPercent(layer[selected.scale].rows.value);
    const button = make("button", { type: "button", "aria-label": `Layer ${layer.layer}: own expert largest in ${share} of rows` }, canvas, make("span", {}, `${layer.layer}`), make("small", {}, share));
    button.setAttribute("aria-pressed", String(index === selected.row));
    button.addEventListener("click", () => { selectLayer(index); find("detail").scrollIntoView(); });
    return button;
  }));
}

// ---- sentences and tables

function writeWords() {
  writeTitle(run.title);
  find("words").append(make("p", {}, run.lead));
  writeItems("sentences", run.sentences);
  find("first-alpha").append(String(run.alphas[0]));
  find("layer").append(...run.layers.map((layer, index) => make("option", { value: String(index) }, `layer ${layer.layer}`)));
  writePairs("facts", run.facts);
  writePairs("terms", run.terms);
  find("tokens-part").hidden = !run.tasks;
  if (run.tasks) writeTokensLead();
}

function writeTokensLead() {
  const { tokens, samples } = run.layers[0].tokens;
  const which = run.tasks.scope === "last" ? "the last token of each" : "every token";
  const counts = `${tokens.toLocaleString("en")} tokens of ${samples.toLocaleString("en")} samples, ${which}`;
  find("tokens-lead").append(named(run.tasks.name), `: ${counts}. For each token, ‖x W_g‖ of each expert is computed from the experts’ own input x. Bands are 95 % intervals by sample. The scale selected above applies here too.`);
}

function writeScaleNote() {
  const paper = "Dashed: the paper’s 3B model without ERC, its layers 0 to 11 stretched over this model’s depth. Compare the shape, not the height: the weights have another scale.";
  const raw = run.alphas[0] === 1 && run.layers.length > 1 ? paper : "In units of M, which shrink with the weights.";
  find("paper-note").replaceChildren(selected.scale === "raw" ? raw : "For rows and gate matrices of length 1, which do not depend on the scale of the weights.");
}

function figuresRow(name, figure, write) {
  return [name, write(figure.value), figure.interval ? showEnds(figure.interval, write) : "–", figure.expected === null ? "–" : write(figure.expected), showSmallP(figure.p)];
}

function writeDetail() {
  const layer = run.layers[selected.row];
  const measured = layer[selected.scale];
  find("layer").value = String(selected.row);
  find("previous").disabled = selected.row === 0;
  find("next").disabled = selected.row === run.layers.length - 1;
  find("detail-title").replaceChildren(`Layer ${layer.layer}`);
  const unit = selected.scale === "raw" ? "" : ` A random direction gives about ${show(1 / Math.sqrt(layer.width))} (1/√H).`;
  find("detail-words").replaceChildren(`${layer.experts} experts, router rows of width ${layer.width}${layer.gated ? "" : ", no gate: the first matrix"}. Mean of the diagonal ${show(measured.diagonal)}, of the other entries ${show(measured.rest)}.${unit}`);
  const losses = measured.loss.map((loss) => figuresRow(`ERC loss, α = ${loss.alpha}`, loss, show));
  const rows = [figuresRow("Rows, own largest", measured.rows, showPercent), figuresRow("Columns, own largest", measured.columns, showPercent), figuresRow("Diagonal / others", measured.ratio, show), ...losses];
  find("figures-table").replaceChildren(tableHead(["Figure", "Measured", "95 % interval", "Random", "p"], [0]), tableBody(rows, [0]));
  writeExperts();
  writeMapNote();
}

function writeExperts() {
  const columns = run.experts[selected.row];
  const suffix = selected.scale === "raw" ? "" : "_scale_free";
  const [inRow, inColumn] = [columns[`row_rank${suffix}`], columns[`column_rank${suffix}`]];
  const rank = (value) => make("td", { className: value === 1 ? "flag" : "" }, String(value));
  const rows = columns.noise_bound.map((bound, expert) => {
    const button = make("button", { type: "button", "aria-label": `Show expert ${expert}` }, String(expert));
    button.addEventListener("click", () => selectPair(expert, expert));
    const isSelected = selected.expert?.every((place) => place === expert);
    const values = [bound, columns.router_norm[expert], columns.gate_norm[expert], columns[`diagonal${suffix}`][expert]];
    return make("tr", { className: isSelected ? "chosen" : "" }, make("td", {}, button), ...values.map((value) => make("td", {}, show(value))), rank(inRow[expert]), rank(inColumn[expert]));
  });
  find("experts").replaceChildren(tableHead(["Expert", "ε", "‖R‖", "‖W_g‖", "Own entry", "In row", "In column"], []), make("tbody", {}, ...rows));
}

function writeMapNote() {
  const note = find("map-note");
  if (selected.expert === null) {
    note.replaceChildren("Select an entry, or move with the arrow keys; + and − change the layer.");
    return;
  }
  const [i, j] = selected.expert;
  const matrix = matrixOf(run, selected.row, selected.scale);
  const value = matrix[i][j];
  const rankIn = (entries) => 1 + entries.filter((other) => other > value).length;
  note.replaceChildren(`Router row ${i}, expert ${j}: ${show(value)}, rank ${rankIn(matrix[i])} in its row and ${rankIn(matrix.map((row) => row[j]))} in its column. Own entry of row ${i}: ${show(matrix[i][i])}.`);
}

// ---- selection

function selectLayer(index) {
  if (index < 0 || index >= run.layers.length) return;
  selected.row = index;
  const n = run.layers[index].experts;
  if (selected.expert) selected.expert = selected.expert.map((place) => Math.min(place, n - 1));
  find("thumbnails").querySelectorAll("button").forEach((button, at) => button.setAttribute("aria-pressed", String(at === index)));
  writeDetail();
  draw(["map", ...ALONG_DEPTH]);
}

function selectPair(i, j) {
  const n = run.layers[selected.row].experts;
  selected.expert = [i, j].map((place) => Math.max(0, Math.min(n - 1, place)));
  writeMapNote();
  writeExperts();
  draw(["map"]);
}

function selectScale(scale) {
  selected.scale = scale;
  writeScaleNote();
  writeThumbnails();
  writeDetail();
  draw(["map", ...ALONG_DEPTH, ...TOKENS]);
}

function moveByKey(event) {
  const step = { "+": 1, "=": 1, "-": -1, PageDown: 1, PageUp: -1 }[event.key];
  const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (step === undefined && !move) return;
  event.preventDefault();
  if (step !== undefined) selectLayer(selected.row + step);
  else if (selected.expert === null) selectPair(0, 0);
  else selectPair(selected.expert[0] + move[0], selected.expert[1] + move[1]);
}

function setUpControls() {
  find("scale").addEventListener("change", (event) => selectScale(event.target.value));
  find("normalize").addEventListener("change", (event) => { selected.normalize = event.target.value; draw(["map"]); });
  find("marks").addEventListener("change", (event) => { selected.marks = event.target.checked; draw(["map"]); });
  find("layer").addEventListener("change", (event) => selectLayer(Number(event.target.value)));
  find("previous").addEventListener("click", () => selectLayer(selected.row - 1));
  find("next").addEventListener("click", () => selectLayer(selected.row + 1));
  find("map").addEventListener("keydown", moveByKey);
}

writeWords();
writeScaleNote();
writeThumbnails();
setUpControls();
writeDetail();
document.addEventListener("DOMContentLoaded", () => watchPrinting(watchTheme(() => draw())));
