"use strict";
// The page: what is chosen, the tables and the words, and when a figure is drawn. All text goes in as text, never as markup.

const run = JSON.parse(find("data").textContent);
run.map = Object.fromEntries(run.kinds.map((kind, index) => [kind, unpack(run.contribution[index])]));
run.most = Object.fromEntries(run.kinds.map((kind, index) => [kind, run.contribution[index].most]));
run.experts = Object.fromEntries(Object.entries(run.experts).map(([column, packed]) => [column, unpack(packed)]));
run.ranks = unpack(run.ranks);
run.jaccard = unpack(run.jaccard);
run.bounds = run.bounds?.map(unpack) ?? null;
run.expert_tokens = run.expert_tokens && unpack(run.expert_tokens);
run.expert_partners = run.expert_partners && unpack(run.expert_partners);
run.lorenz = run.lorenz.map((packed) => unpack(packed).row(0));

const chosen = { row: run.start.row, expert: run.start.expert, domain: 0, kind: run.kind, scale: "linear" };
let order = { column: "layer", down: false };

/** A name from the run, kept apart from the direction and the length of what surrounds it. */
const named = (text, longest = 60) => make("bdi", { title: label(text, 300) }, label(text, longest));

function pairs(list, entries) {
  find(list).replaceChildren(...entries.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]));
}

// ---- words and tiles

function writeHeader() {
  document.title = `${label(run.title, 80)} · Turnout`;
  find("title").append(named(run.title, 120));
  find("words").append(...run.words.map((sentence) => make("p", { dir: "auto" }, sentence)));
  find("overview-lead").append(run.lead);
  find("marks-note").append(run.marks_note);
  pairs("facts", run.facts.map(([term, value]) => [term, make("bdi", {}, label(value, 300))]));
  pairs("terms", run.terms);
}

function writeTiles() {
  const tile = (name, number, ...ranges) =>
    make("div", { className: "tile" }, make("span", { className: "name" }, name), make("span", { className: "number" }, number),
      ...ranges.map((range) => make("span", { className: "range" }, range)));
  find("tiles").append(...run.overall.map((entry) =>
    tile(run.names[entry.measure], show(entry.mean), entry.interval ? showEnds(entry.interval) : "no interval", `layers ${show(entry.min)} to ${show(entry.max)}`, nullsOf(entry).join(", ") || "no null")));
  run.overall[0].without.forEach(([domain], index) => {
    const means = run.overall.map((entry) => `${run.names[entry.measure]} ${show(entry.without[index][1])}`);
    find("tiles").after(make("p", {}, "Without ", named(domain), `: ${means.join(", ")}.`));
  });
}

/** The nulls of a figure in words: floor, rotated router, ceiling. */
const nullsOf = (entry) => [["floor", entry.floor], ["rotated", entry.rotated], ["ceiling", entry.ceiling]].filter(([, value]) => value !== null).map(([name, value]) => `${name} ${show(value)}`);

function writeQuestions() {
  const counted = run.questions.some((row) => row.accuracy !== null);
  const head = ["Domain", "Questions", ...(counted ? ["Accuracy"] : [])];
  find("questions").append(
    make("thead", {}, make("tr", {}, ...head.map((name, index) => make("th", { scope: "col", className: index ? "" : "left" }, name)))),
    make("tbody", {}, ...run.questions.map((row) =>
      make("tr", {}, make("td", { className: "left name" }, named(row.domain), row.dropped ? " (left out)" : ""), make("td", {}, String(row.questions)),
        ...(counted ? [make("td", {}, show(row.accuracy))] : [])))),
  );
}

// ---- the table of layers

const list = (experts, longest = 16) =>
  experts.length <= longest ? experts.join(", ") : `${experts.slice(0, longest).join(", ")} and ${experts.length - longest} more`;

const ALIKE = run.layers.every((layer) => ["experts", "top_k", "shared"].every((name) => layer[name] === run.layers[0][name])); // the header says it then
const COLUMNS = [
  { key: "layer", name: "Layer" },
  { key: "claim", name: "Claim", note: "what it shows", by: (row) => VERDICTS.indexOf(row.claim) },
  ...(ALIKE ? [] : [{ key: "experts", name: "Experts", note: "K of E, shared" }]),
  { key: "committee", name: "Committee", note: "by mean rank", by: (row) => row.committee.length },
  { key: "candidates", name: "Candidates", by: (row) => row.candidates.length },
  { key: "coverage", name: "Coverage", note: "floor |C|/E" },
  { key: "coverage_topk", name: "Coverage, top K", note: "floor |C|/K" },
  { key: "gini", name: "Gini", note: "of the mean" },
  { key: "gini_topk", name: "Gini, top K", note: "floor 1−K/E" },
  { key: "jaccard_mean", name: "Jaccard", note: "mean of pairs" },
  { key: "influence_ratio", name: "Influence ratio" },
];
const VERDICTS = [null, "none", "cannot tell", "core", "dominant committee"];
const MEASURES = run.overall.map((entry) => entry.measure);

function measureCell(row, key) {
  const { value, floor, rotated, interval } = row[key];
  const cell = make("td", { className: "measure" }, make("span", { className: "value" }, show(value)));
  if (value === null) return cell;
  cell.append(make("span", { className: "interval", title: "95 % interval" }, interval ? showEnds(interval) : "no interval"));
  cell.append(...(nullsOf(row[key]).length ? nullsOf(row[key]) : ["no null"]).map((words) => make("span", { className: "null" }, words)));
  if (key === "influence_ratio") return cell;
  const track = make("span", { className: "track" }, make("i"));
  track.firstChild.style.width = `${100 * Math.max(0, Math.min(1, value))}%`;
  for (const [null_, tag] of [[floor, "b"], [rotated, "u"]]) {
    if (null_ === null) continue;
    track.append(make(tag));
    track.lastChild.style.left = `${100 * Math.min(1, null_)}%`;
  }
  cell.append(track);
  return cell;
}

function layerRow(row, index) {
  const number = make("button", { type: "button", "aria-label": `Look at layer ${row.layer}` }, String(row.layer));
  number.addEventListener("click", () => { chooseLayer(index); find("detail").scrollIntoView(); });
  const candidates = make("td", { className: "list" }, list(row.candidates));
  if (row.fallback) candidates.prepend(make("span", { className: "flag", title: "No expert is present in enough domains; these are the most present ones. A fallback supports no claim." }, "fallback "));
  const cells = [
    make("td", {}, number), make("td", { className: "left" }, row.claim ? `${run.symbols[row.claim]} ${SHORT[row.claim]}` : "–"), ...(ALIKE ? [] : [make("td", {}, `${row.top_k} of ${row.experts}${row.shared ? ` + ${row.shared}` : ""}`)]),
    make("td", { className: "list" }, list(row.committee)), candidates, ...MEASURES_ORDER.map((key) => measureCell(row, key)),
  ];
  return make("tr", { className: index === chosen.row ? "chosen" : "" }, ...cells);
}
const MEASURES_ORDER = COLUMNS.map((column) => column.key).filter((key) => MEASURES.includes(key));

function sortedRows() {
  const column = COLUMNS.find((entry) => entry.key === order.column);
  const value = (row) => (column.by ? column.by(row) : MEASURES.includes(column.key) ? row[column.key].value : row[column.key]);
  const sign = order.down ? -1 : 1;
  const compare = (one, other) => {
    const [a, b] = [value(run.layers[one]), value(run.layers[other])];
    if (a === null || b === null) return (a === null) - (b === null); // the undefined stand last either way
    return sign * (a - b) || one - other;
  };
  return run.layers.map((_, index) => index).sort(compare);
}

function writeTable() {
  const head = COLUMNS.map((column) => {
    const sorted = order.column === column.key;
    const button = make("button", { type: "button" }, column.name + (sorted ? (order.down ? " ↓" : " ↑") : ""));
    button.addEventListener("click", () => {
      order = { column: column.key, down: sorted ? !order.down : column.key !== "layer" };
      writeTable();
      find("table").querySelectorAll("th button")[COLUMNS.indexOf(column)].focus();
    });
    const cell = make("th", { scope: "col", className: ["claim", "committee", "candidates"].includes(column.key) ? "left" : "" }, button, make("small", {}, column.note ?? "\u00a0"));
    cell.setAttribute("aria-sort", sorted ? (order.down ? "descending" : "ascending") : "none");
    return cell;
  });
  find("table").replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...sortedRows().map((index) => layerRow(run.layers[index], index))));
}

// ---- one layer, one expert

function roleOf(layer, expert) {
  if (layer.committee.includes(expert)) return "committee";
  return layer.candidates.includes(expert) ? "candidate" : "neither";
}

function writeExperts() {
  const layer = run.layers[chosen.row];
  const value = (column, expert) => run.experts[column].row(chosen.row)[expert];
  const weight = { committee: 0, candidate: 1, neither: 2 };
  const experts = Array.from({ length: layer.experts }, (_, expert) => expert).sort((one, other) =>
    weight[roleOf(layer, one)] - weight[roleOf(layer, other)] || value("mean_rank", one) - value("mean_rank", other) || one - other);
  const head = ["Expert", "Role", "Stability", "Mean rank", "Variance", "Presence", "Share"];
  const rows = experts.map((expert) => {
    const button = make("button", { type: "button", "aria-label": `Look at expert ${expert}` }, String(expert));
    button.addEventListener("click", () => { chooseExpert(chosen.row, expert); find("card").scrollIntoView({ block: "nearest" }); });
    const stability = value("candidate_stability", expert);
    const numbers = [Number.isNaN(stability) ? "–" : `${Math.round(100 * stability)} %`, value("mean_rank", expert).toFixed(2), value("rank_variance", expert).toFixed(2), `${Math.round(100 * value("presence", expert))} %`, show(value("share", expert))];
    return make("tr", { className: `${roleOf(layer, expert)} ${expert === chosen.expert ? "chosen" : ""}` }, make("td", {}, button), make("td", { className: "left" }, roleOf(layer, expert)), ...numbers.map((text) => make("td", {}, text)));
  });
  find("experts").replaceChildren(make("thead", {}, make("tr", {}, ...head.map((name, index) => make("th", { scope: "col", className: index === 1 ? "left" : "" }, name)))), make("tbody", {}, ...rows));
}

function writeDetail() {
  const layer = run.layers[chosen.row];
  find("layer").value = String(chosen.row);
  find("detail-title").textContent = `Layer ${layer.layer}`;
  find("previous").disabled = chosen.row === 0;
  find("next").disabled = chosen.row === run.layers.length - 1;
  const size = layer.committee.length;
  find("detail-words").textContent =
    `${size === 1 ? "One expert" : `${size} experts`} of ${layer.experts} in the committee (${list(layer.committee)}), out of ${layer.candidates.length} ${layer.candidates.length === 1 ? "candidate" : "candidates"}. ` +
    `Coverage ${show(layer.coverage.value)} against ${show(layer.coverage.floor)} at equal contributions.` +
    (layer.fallback ? " No expert is present in enough domains: this is the fallback, which supports no claim." : "");
  const { interval } = layer.jaccard_mean;
  find("jaccard-words").textContent = layer.jaccard_mean.value === null ? "" :
    `Mean ${show(layer.jaccard_mean.value)}${interval ? ` ${showEnds(interval)}` : ", no interval"}${nullsOf(layer.jaccard_mean).map((words) => `, ${words}`).join("")}; single pairs carry no interval.`;
  writeClaim();
  writeTokens();
}

function writeCard() {
  const layer = run.layers[chosen.row];
  const value = (column) => run.experts[column].row(chosen.row)[chosen.expert];
  const kept = run.questions.filter((row) => !row.dropped).length;
  find("card-title").textContent = `Layer ${layer.layer}, expert ${chosen.expert}: ${roleOf(layer, chosen.expert)}`;
  pairs("card-facts", [
    [chosen.domain === 0 ? "Mean contribution" : `Contribution in ${label(run.domains[chosen.domain - 1])}`, show(run.map[chosen.kind].row(chosen.domain, chosen.row)[chosen.expert])],
    ["Share of the layer", show(value("share"))],
    ["Mean rank", show(value("mean_rank"))],
    ["Variance of rank", show(value("rank_variance"))],
    ["In the first K of", `${Math.round(value("presence") * kept)} of ${kept} domains`],
    ...(Number.isNaN(value("candidate_stability")) ? [] : [["Of resamples", `candidate in ${Math.round(100 * value("candidate_stability"))} %, member in ${Math.round(100 * value("member_stability"))} %`]]),
    ...cardTokens(), ...cardPartners(),
  ]);
}

// ---- figures, drawn when first seen and again when what they show has changed

const narrow = () => window.innerWidth < 736;
const printing = () => document.documentElement.classList.contains("printing");
const figures = new Map();
const seen = new Set();

function figure(id, needs, build, words) {
  figures.set(id, { needs, build, words, stale: true });
}

function draw(id) {
  const entry = figures.get(id);
  if (!entry.stale) return;
  entry.stale = false;
  const node = find(id);
  node.setAttribute("aria-label", entry.words());
  const { traces, layout } = entry.build(colours());
  Plotly.react(node, traces, layout, { displayModeBar: false, responsive: true });
  if (!node.dataset.drawn && entry.click) node.on("plotly_click", (event) => entry.click(event.points[0]));
  node.dataset.drawn = String(Number(node.dataset.drawn ?? 0) + 1);
}

/** Mark the figures that depend on what changed, and draw those in view. */
function refresh(...changed) {
  for (const [id, entry] of figures) {
    if (changed.includes("all") || entry.needs.some((need) => changed.includes(need))) entry.stale = true;
    if (entry.stale && seen.has(id)) draw(id);
  }
}

function setUpFigures() {
  const grid = find("profiles");
  for (const { measure } of run.overall.filter((entry) => entry.mean !== null)) {
    const id = `profile-${measure}`;
    grid.append(make("div", {}, make("h3", {}, run.names[measure]), make("figure", { id, className: "figure", role: "img" })));
    figure(id, ["layer"], (colour) => profileFigure(run.profiles[measure], measure, run.layers[chosen.row].layer, colour),
      () => `${run.names[measure]} along the layers; the numbers are in the table below`);
    figures.get(id).click = (point) => chooseLayer(run.profiles[measure].layer.indexOf(point.x));
  }
  const wide = Math.max(...run.layers.map((layer) => layer.experts));
  const height = Math.max(220, Math.min(760, 18 * run.layers.length + 60));
  find("map").style.height = `${height}px`;
  find("specificity").style.height = `${(run.domains.length > 20 ? 16 : 26) * run.domains.length + 60}px`;
  find("specificity").style.minWidth = `${10 * run.layers.length + 180}px`;
  find("card-figure").style.height = `${(run.domains.length > 20 ? 16 : 22) * run.domains.length + 50}px`;
  figure("map", ["layer", "expert", "domain", "kind", "scale"], (colour) => {
    find("map").style.minWidth = printing() ? "0" : `${6 * wide + 120}px`;
    const across = (find("map").clientWidth - 130) / wide;
    return mapFigure(run, chosen, colour, Math.min(across, (height - 46) / run.layers.length));
  }, () => `Contribution of ${wide} experts in ${run.layers.length} layers, ${domainName()}; arrow keys move the chosen expert`);
  figures.get("map").click = (point) => chooseExpert(run.layers.findIndex((layer) => String(layer.layer) === String(point.y)), Number(point.x));
  figure("card-figure", ["layer", "expert", "domain", "kind"], (colour) => cardFigure(run, chosen, colour, narrow()), () => "Contribution of the chosen expert by domain");
  figure("plane", ["layer"], (colour) => planeFigure(run, chosen, colour), () => "Mean and variance of rank of this layer’s experts; the numbers are in the table of experts");
  figures.get("plane").click = (point) => chooseExpert(chosen.row, point.customdata);
  figure("lorenz", ["layer"], (colour) => lorenzFigure(run, chosen, colour), () => `Lorenz curve; Gini ${show(run.layers[chosen.row].gini.value)}`);
  figure("jaccard", ["layer"], (colour) => jaccardFigure(run, chosen, colour, narrow()), () => `Overlap of domains; mean Jaccard ${show(run.layers[chosen.row].jaccard_mean.value)}`);
  writeSignal();
  writeMasking();
  writeBudgets();
  figure("specificity", [], (colour) => specificityFigure(run, colour, narrow()), () => "Specificity of each domain in each layer");
  const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (entry.isIntersecting) { seen.add(entry.target.id); draw(entry.target.id); } else seen.delete(entry.target.id);
  }), { rootMargin: "200px" });
  for (const id of figures.keys()) watcher.observe(find(id));
}

// ---- choosing

function domainName() {
  return chosen.domain === 0 ? "mean over domains" : label(run.domains[chosen.domain - 1], 60);
}

function chooseExpert(row, expert) {
  const layerChanged = row !== chosen.row;
  chosen.row = row;
  chosen.expert = Math.max(0, Math.min(run.layers[row].experts - 1, expert));
  writeCard();
  writeExperts();
  if (layerChanged) { writeTable(); writeDetail(); }
  refresh("expert", ...(layerChanged ? ["layer"] : []));
}

const chooseLayer = (row) => chooseExpert(row, run.layers[row].committee[0] ?? 0);

function setUpControls() {
  find("domain").append(make("option", { value: "0" }, "mean over domains"), ...run.domains.map((name, index) => make("option", { value: String(index + 1) }, label(name, 60))));
  find("kind").append(...run.kinds.map((kind) => make("option", { value: kind, selected: kind === run.kind }, run.kind_names[kind])));
  find("layer").append(...run.layers.map((layer, row) => make("option", { value: String(row) }, `layer ${layer.layer}`)));
  find("domain").addEventListener("change", (event) => { chosen.domain = Number(event.target.value); writeCard(); refresh("domain"); });
  find("kind").addEventListener("change", (event) => { chosen.kind = event.target.value; writeCard(); refresh("kind"); });
  find("scale").addEventListener("change", (event) => { chosen.scale = event.target.value; refresh("scale"); });
  find("layer").addEventListener("change", (event) => chooseLayer(Number(event.target.value)));
  find("previous").addEventListener("click", () => chooseLayer(chosen.row - 1));
  find("next").addEventListener("click", () => chooseLayer(chosen.row + 1));
  find("map").addEventListener("keydown", (event) => {
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    chooseExpert(Math.max(0, Math.min(run.layers.length - 1, chosen.row + down)), chosen.expert + right);
  });
}

// ---- dark, light, paper

function setUpTheme() {
  const setTheme = watchTheme(() => refresh("all"));
  let before = "light";
  window.addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme;
    document.documentElement.classList.add("printing");
    setTheme("light");
    for (const id of figures.keys()) draw(id);
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    setTheme(before);
  });
}
