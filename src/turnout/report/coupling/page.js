"use strict";
// The page of a measured coupling: what is chosen, words, tables, and when a figure is drawn. Text goes in as text.

const run = JSON.parse(find("data").textContent);
run.unpacked = run.matrix.map(unpackShares);
const start = run.layers.reduce((best, layer, index) => (layer.scale_free.rows.value > run.layers[best].scale_free.rows.value ? index : best), 0);
const chosen = { row: start, scale: "raw", normalise: "none", marks: true, expert: null };

const figures = new Map([
  ["rows", (colour) => pairingFigure(run, run.layers.map((layer) => layer[chosen.scale].rows), chosen, colour, { yaxis: { tickformat: ".0%" } })],
  ["columns", (colour) => pairingFigure(run, run.layers.map((layer) => layer[chosen.scale].columns), chosen, colour, { yaxis: { tickformat: ".0%" } })],
  ["loss", (colour) => lossFigure(run, chosen, colour)],
  ["alphas", (colour) => alphasFigure(run, chosen, colour)],
  ["ratio", (colour) => pairingFigure(run, run.layers.map((layer) => layer[chosen.scale].ratio), chosen, colour)],
  ["bound", (colour) => boundFigure(run, chosen, colour)],
  ["map", (colour) => couplingMap(run, chosen, colour, find("map").clientWidth)],
  ...(run.tasks ? ["agree", "first", "correlation"].map((measure) => [measure, (colour) => tokensFigure(run, measure, chosen, colour)]) : []),
]);
const ALONG_DEPTH = ["rows", "columns", "loss", "alphas", "ratio"];
const TOKENS = ["agree", "first", "correlation"];

function draw(ids = figures.keys()) {
  if (!window.Plotly) return;
  const colour = colours();
  for (const id of ids) {
    if (!figures.has(id)) continue;
    const node = find(id);
    const { traces, layout } = figures.get(id)(colour);
    const fresh = !node.dataset.drawn;
    Plotly.react(node, traces, layout, { displayModeBar: false, responsive: true });
    node.dataset.drawn = String(Number(node.dataset.drawn ?? 0) + 1);
    if (fresh) listen(id, node);
  }
}

function listen(id, node) {
  node.on("plotly_click", ({ points: [point] }) => {
    if (id === "map") { if (point.curveNumber === 0) choosePair(point.y, point.x); return; }
    const index = run.layers.findIndex((layer) => layer.layer === point.x);
    if (index >= 0) chooseLayer(index);
  });
}

function pairs(list, entries) {
  find(list).replaceChildren(...entries.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, make("bdi", {}, label(value, 300)))]));
}

function writeWords() {
  document.title = `${label(run.title, 80)} · Turnout`;
  find("title").append(make("bdi", { title: label(run.title, 300) }, label(run.title, 120)));
  find("words").append(make("p", {}, run.lead));
  find("sentences").append(...run.sentences.map((line) => make("li", { dir: "auto" }, line)));
  find("first-alpha").append(String(run.alphas[0]));
  find("layer").append(...run.layers.map((layer, index) => make("option", { value: String(index) }, `layer ${layer.layer}`)));
  pairs("facts", run.facts);
  pairs("terms", run.terms);
  if (!run.tasks) return;
  find("tokens-part").hidden = false;
  const { tokens, samples } = run.layers[0].tokens;
  const which = run.tasks.scope === "last" ? "the last token of each" : "every token";
  find("tokens-lead").append(make("bdi", {}, label(run.tasks.name, 60)), `: ${tokens.toLocaleString("en")} tokens of ${samples.toLocaleString("en")} samples, ${which}. For each, the gate of every expert is asked how loud it answers the experts’ true input x: ‖x W_g‖. Bands are 95 % intervals by sample. The scale chosen above holds here too.`);
}

function writeScaleNote() {
  const paper = "Dashed: the paper’s 3B model without ERC, its layers 0 to 11 laid over this model’s depth. Its weights have another scale, so its shape compares and its height does not.";
  const free = "For rows and gate matrices of length 1, which no shrinking of weights can lower.";
  find("paper-note").replaceChildren(chosen.scale === "raw" ? (run.alphas[0] === 1 && run.layers.length > 1 ? paper : "In the units of M, which fall if weights merely shrink.") : free);
}

function writeThumbnails() {
  find("thumbnails").replaceChildren(...run.layers.map((layer, index) => {
    const canvas = make("canvas", {});
    drawThumbnail(canvas, matrixOf(run, index, chosen.scale));
    const share = layer[chosen.scale].rows.value;
    const button = make("button", { type: "button", "aria-label": `Layer ${layer.layer}: own expert loudest in ${percent(share)} of rows` }, canvas, make("span", {}, `${layer.layer}`), make("small", {}, percent(share)));
    button.setAttribute("aria-pressed", String(index === chosen.row));
    button.addEventListener("click", () => { chooseLayer(index); find("detail").scrollIntoView(); });
    return button;
  }));
}

const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.095 ? 1 : 0)} %`;

function figuresRow(name, found, form) {
  const cell = (text, className = "") => make("td", { className }, text);
  return make("tr", {}, cell(name, "left"), cell(form(found.value)), cell(found.interval ? `[${form(found.interval[0])}, ${form(found.interval[1])}]` : "–"), cell(found.expected === null ? "–" : form(found.expected)), cell(showSmall(found.p)));
}

function writeDetail() {
  const layer = run.layers[chosen.row];
  const found = layer[chosen.scale];
  find("layer").value = String(chosen.row);
  find("previous").disabled = chosen.row === 0;
  find("next").disabled = chosen.row === run.layers.length - 1;
  find("detail-title").replaceChildren(`Layer ${layer.layer}`);
  const unit = chosen.scale === "raw" ? "" : ` A direction drawn at random gives about ${show(1 / Math.sqrt(layer.width))} (1/√H).`;
  find("detail-words").replaceChildren(`${layer.experts} experts, router rows of width ${layer.width}${layer.gated ? "" : ", no gate: the first matrix"}. Diagonal ${show(found.diagonal)} on average, the rest ${show(found.rest)}.${unit}`);
  const rows = [figuresRow("Rows, own largest", found.rows, percent), figuresRow("Columns, own largest", found.columns, percent), figuresRow("Diagonal / rest", found.ratio, show),
    ...found.loss.map((loss) => figuresRow(`ERC loss, α = ${loss.alpha}`, loss, show))];
  find("figures-table").replaceChildren(tableHead(["Figure", "Measured", "95 % interval", "Random", "p"], [0]), make("tbody", {}, ...rows));
  writeExperts();
  writeMapNote();
}

function writeExperts() {
  const own = run.experts[chosen.row];
  const suffix = chosen.scale === "raw" ? "" : "_scale_free";
  const ranks = [own[`row_rank${suffix}`], own[`column_rank${suffix}`]];
  const rank = (value) => make("td", { className: value === 1 ? "flag" : "" }, String(value));
  const rows = own.noise_bound.map((bound, expert) => {
    const button = make("button", { type: "button", "aria-label": `Show expert ${expert}` }, String(expert));
    button.addEventListener("click", () => choosePair(expert, expert));
    return make("tr", { className: chosen.expert && chosen.expert[0] === expert && chosen.expert[1] === expert ? "chosen" : "" }, make("td", {}, button), make("td", {}, show(bound)), make("td", {}, show(own.router_norm[expert])), make("td", {}, show(own.gate_norm[expert])), make("td", {}, show(own[`diagonal${suffix}`][expert])), rank(ranks[0][expert]), rank(ranks[1][expert]));
  });
  find("experts").replaceChildren(tableHead(["Expert", "ε", "‖R‖", "‖W_g‖", "Own entry", "In row", "In column"], []), make("tbody", {}, ...rows));
}

function writeMapNote() {
  const note = find("map-note");
  if (chosen.expert === null) { note.replaceChildren("Choose an entry, or move with the arrow keys; + and − change the layer."); return; }
  const [i, j] = chosen.expert;
  const matrix = matrixOf(run, chosen.row, chosen.scale);
  const value = matrix[i][j];
  const above = (line) => 1 + line.filter((other) => other > value).length;
  note.replaceChildren(`Router row ${i}, expert ${j}: ${show(value)}, rank ${above(matrix[i])} of its row and ${above(matrix.map((row) => row[j]))} of its column; row ${i}’s own expert answers ${show(matrix[i][i])}.`);
}

function chooseLayer(index) {
  if (index < 0 || index >= run.layers.length) return;
  chosen.row = index;
  const n = run.layers[index].experts;
  if (chosen.expert) chosen.expert = chosen.expert.map((place) => Math.min(place, n - 1));
  find("thumbnails").querySelectorAll("button").forEach((button, at) => button.setAttribute("aria-pressed", String(at === index)));
  writeDetail();
  draw(["map", ...ALONG_DEPTH]);
}

function choosePair(i, j) {
  const n = run.layers[chosen.row].experts;
  chosen.expert = [i, j].map((place) => Math.max(0, Math.min(n - 1, place)));
  writeMapNote();
  writeExperts();
  draw(["map"]);
}

function setUpControls() {
  find("scale").addEventListener("change", (event) => { chosen.scale = event.target.value; writeScaleNote(); writeThumbnails(); writeDetail(); draw(["map", ...ALONG_DEPTH, ...TOKENS]); });
  find("normalise").addEventListener("change", (event) => { chosen.normalise = event.target.value; draw(["map"]); });
  find("marks").addEventListener("change", (event) => { chosen.marks = event.target.checked; draw(["map"]); });
  find("layer").addEventListener("change", (event) => chooseLayer(Number(event.target.value)));
  find("previous").addEventListener("click", () => chooseLayer(chosen.row - 1));
  find("next").addEventListener("click", () => chooseLayer(chosen.row + 1));
  find("map").addEventListener("keydown", (event) => {
    const step = { "+": 1, "=": 1, "-": -1, PageDown: 1, PageUp: -1 }[event.key];
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step === undefined && !move) return;
    event.preventDefault();
    if (step !== undefined) { chooseLayer(chosen.row + step); return; }
    const [i, j] = chosen.expert ?? [0, 0];
    if (chosen.expert === null) choosePair(0, 0);
    else choosePair(i + move[0], j + move[1]);
  });
}

function setUp() {
  const set = watchTheme(() => draw());
  let before = "light";
  window.addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme; document.documentElement.classList.add("printing"); set("light"); });
  window.addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); set(before); });
}

writeWords();
writeScaleNote();
writeThumbnails();
setUpControls();
writeDetail();
document.addEventListener("DOMContentLoaded", setUp);
