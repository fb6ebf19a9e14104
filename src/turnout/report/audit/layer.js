// One layer: its claim, rank plane, Lorenz curve, overlap of domains, experts and tokens.

function writeDetail() {
  const layer = run.layers[selected.row];
  find("layer").value = String(selected.row);
  find("detail-title").textContent = `Layer ${layer.layer}`;
  find("previous").disabled = selected.row === 0;
  find("next").disabled = selected.row === run.layers.length - 1;
  find("detail-words").textContent = layerWords(layer);
  find("jaccard-words").textContent = overlapWords(layer.jaccard_mean);
  writeClaim();
  writeTokens();
}

function layerWords(layer) {
  const [size, candidates] = [layer.committee.length, layer.candidates.length];
  const members = `${size === 1 ? "One expert" : `${size} experts`} of ${layer.experts} in the committee (${listExperts(layer.committee)}), from ${candidates} ${candidates === 1 ? "candidate" : "candidates"}.`;
  const coverage = ` Coverage ${show(layer.coverage.value)}; with equal contributions ${show(layer.coverage.floor)}.`;
  const fallback = layer.fallback ? " No expert is in the first K of enough domains: this is a fallback, which supports no claim." : "";
  return members + coverage + fallback;
}

function overlapWords(figure) {
  if (figure.value === null) return "";
  const interval = figure.interval ? ` ${showEnds(figure.interval)}` : ", no interval";
  return `Mean ${show(figure.value)}${interval}${nullsOf(figure).map((words) => `, ${words}`).join("")}. Single pairs have no interval.`;
}

/** The parts of the layer's claim with their numbers, its core set, and its nulls in sentences. */
function writeClaim() {
  const { parts, nulls } = run.claims[selected.row];
  const [verdict, core] = [run.layers[selected.row].claim, run.core_sets[selected.row]];
  const head = ["Part of the claim", "Value", "Lower 95 % bound", "Threshold", "p", "Outcome"];
  find("claim").replaceChildren(...(parts.length ? [tableHead(head, [0, 5]), make("tbody", {}, ...parts.map(partRow))] : []));
  find("claim-title").textContent = verdict ? `Claim: ${verdict}` : "No claim is made";
  find("claim-core").textContent = core?.length ? `Core set, chosen on one half of the questions and tested on the other: ${listExperts(core)}.` : "";
  writeItems("nulls", nulls);
}

function partRow(part) {
  const outcome = part.passed === null ? "– not tested" : part.passed ? "✓ passed" : "✗ failed";
  const write = (value) => (value > 1 && Number.isInteger(value) ? String(value) : show(value)); // a number of experts
  return make("tr", {}, make("td", { className: "left name" }, part.name), ...[part.value, part.lower, part.threshold].map((value) => make("td", {}, write(value))),
    make("td", {}, showP(part.p)), make("td", { className: `left ${part.passed === false ? "flag" : ""}` }, outcome));
}

/** All experts of the layer: committee, other candidates, others; each by mean rank. */
function writeExperts() {
  const layer = run.layers[selected.row];
  const value = (column, expert) => run.experts[column].row(selected.row)[expert];
  const group = { committee: 0, candidate: 1, neither: 2 };
  const experts = Array.from({ length: layer.experts }, (_, expert) => expert).sort((one, other) =>
    group[roleOf(layer, one)] - group[roleOf(layer, other)] || value("mean_rank", one) - value("mean_rank", other) || one - other);
  const rows = experts.map((expert) => expertRow(expert, roleOf(layer, expert), (column) => value(column, expert)));
  find("experts").replaceChildren(tableHead(["Expert", "Role", "Stability", "Mean rank", "Variance", "Presence", "Share"], [1]), make("tbody", {}, ...rows));
}

function expertRow(expert, role, value) {
  const button = make("button", { type: "button", "aria-label": `Show expert ${expert}` }, String(expert));
  button.addEventListener("click", () => { selectExpert(selected.row, expert); find("card").scrollIntoView({ block: "nearest" }); });
  const stability = value("candidate_stability");
  const percent = (share) => `${Math.round(100 * share)} %`;
  const numbers = [Number.isNaN(stability) ? "–" : percent(stability), value("mean_rank").toFixed(2), value("rank_variance").toFixed(2), percent(value("presence")), show(value("share"))];
  return make("tr", { className: `${role} ${expert === selected.expert ? "chosen" : ""}` }, make("td", {}, button), make("td", { className: "left" }, role), ...numbers.map((text) => make("td", {}, text)));
}

/** The token types bound to the committee or the periphery, and the committee's share of each token class. */
function writeTokens() {
  const bound = run.bound[selected.row];
  find("tokens-part").hidden = !bound;
  if (!bound) return;
  const rows = ["committee", "periphery"].flatMap((side) => bound[side].map(([text, rate, domains, count]) =>
    make("tr", {}, make("td", { className: "left" }, side), make("td", { className: "left" }, token(text)), make("td", {}, show(rate)), make("td", {}, String(domains)), make("td", {}, count.toLocaleString("en")))));
  find("tokens").replaceChildren(tableHead(["Bound to the", "Token", "Committee’s share", "Domains", "Count"], [0, 1]), make("tbody", {}, ...rows));
  find("tokens-none").hidden = rows.length > 0;
  const classes = run.classes[selected.row];
  const shares = classes.slice(0, -1).map((row) => `${row.class} ${show(row.rate)}`);
  find("classes").textContent = shares.length ? `Share of selections that are committee members: all tokens ${show(classes.at(-1).rate)}; ${shares.join(", ")}.` : "";
}

function addLayerFigures() {
  addFigure("plane", {
    shows: ["layer"],
    build: (color) => planeFigure(run, selected, color),
    describe: () => "Mean and variance of rank of this layer’s experts; the table of experts has the numbers",
    click: (point) => selectExpert(selected.row, point.customdata),
  });
  addFigure("lorenz", {
    shows: ["layer"],
    build: (color) => lorenzFigure(run, selected, color),
    describe: () => `Lorenz curve; Gini ${show(run.layers[selected.row].gini.value)}`,
  });
  addFigure("jaccard", {
    shows: ["layer"],
    build: (color) => jaccardFigure(run, selected, color, narrow()),
    describe: () => `Overlap of domains; mean Jaccard ${show(run.layers[selected.row].jaccard_mean.value)}`,
  });
}
