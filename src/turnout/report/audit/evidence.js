// The claim and what else a run may hold: tokens, partners, masking, budgets. What a run lacks is not shown.

const SHORT = { "dominant committee": "dominant", core: "core", none: "none", "cannot tell": "cannot tell" };
const verdictClass = (verdict) => (verdict ?? "unclaimed").replace(" ", "-");

function writeClaimBox() {
  find("claim-box").classList.add(verdictClass(run.verdict));
  find("headline").append(run.headline);
  find("findings").append(...run.findings.map((line) => make("li", {}, line)));
  find("notes").append(...run.notes.map((line) => make("p", {}, line)));
  if (!run.layers.some((layer) => layer.claim)) return find("strip").remove();
  const cells = run.layers.map((layer, row) => {
    const name = `Layer ${layer.layer}: ${layer.claim ?? "no claim"}`;
    const button = make("button", { type: "button", className: verdictClass(layer.claim), title: name, "aria-label": name }, run.symbols[layer.claim] ?? "–", make("small", {}, String(layer.layer)));
    button.addEventListener("click", () => { chooseLayer(row); find("detail").scrollIntoView(); });
    return button;
  });
  find("strip").append(...cells);
  const used = new Set(run.layers.map((layer) => layer.claim));
  find("strip-legend").append(...Object.entries(run.symbols).filter(([verdict]) => used.has(verdict)).map(([verdict, symbol]) => make("span", {}, `${symbol} ${verdict}`)));
}

/** The parts of the chosen layer's claim with their numbers, and its nulls in words. */
function writeClaim() {
  const { parts, nulls } = run.claims[chosen.row];
  const layer = run.layers[chosen.row];
  const core = run.core_sets[chosen.row];
  const head = ["Part of the claim", "Value", "Lower 95 % bound", "Threshold", "p", "Outcome"];
  const outcome = (passed) => (passed === null ? "– not tested" : passed ? "✓ passed" : "✗ failed");
  const rows = parts.map((part) => make("tr", {}, make("td", { className: "left name" }, part.name), ...[part.value, part.lower, part.threshold].map((value) => make("td", {}, value > 1 && Number.isInteger(value) ? String(value) : show(value))),
    make("td", {}, showP(part.p)), make("td", { className: `left ${part.passed === false ? "flag" : ""}` }, outcome(part.passed))));
  find("claim").replaceChildren(...(parts.length ? [tableHead(head, [0, 5]), make("tbody", {}, ...rows)] : []));
  find("claim-title").textContent = layer.claim ? `Claim: ${layer.claim}` : "No claim is made";
  find("claim-core").textContent = core?.length ? `Core set, chosen on one half of the questions and tested on the other: ${list(core)}.` : "";
  find("nulls").replaceChildren(...nulls.map((line) => make("li", {}, line)));
}

// ---- tokens and partners

/** A token as it reads: blanks and line ends made visible, whatever it holds kept as text. */
function token(text) {
  const visible = String(text).replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/^ | $/g, "␣");
  return make("bdi", { className: "token" }, label(visible, 24));
}

const whole = (row) => Array.from(row).filter((value) => !Number.isNaN(value));

function cardTokens() {
  if (!run.expert_tokens) return [];
  const places = whole(run.expert_tokens.row(chosen.row, chosen.expert));
  const words = places.length ? places.flatMap((place) => [token(run.token_texts[place]), " "]) : ["none more than by chance"];
  return [["Tokens", make("span", {}, ...words)]];
}

function cardPartners() {
  if (!run.expert_partners) return [];
  const names = ["Partners here", "In the layer before", "In earlier layers"];
  return names.flatMap((name, relation) => {
    const found = [0, 1, 2].map((place) => Array.from(run.expert_partners.row(chosen.row, chosen.expert, relation, place))).filter(([layer]) => !Number.isNaN(layer));
    if (!found.length) return [];
    const words = found.map(([layer, expert, lift]) => `${relation === 2 ? `${layer}/` : ""}${expert} (×${lift >= 100 ? lift.toFixed(0) : lift.toFixed(1)})`);
    return [[name, words.join(", ")]];
  });
}

function writeTokens() {
  const bound = run.bound[chosen.row];
  find("tokens-part").hidden = !bound;
  if (!bound) return;
  const classes = run.classes[chosen.row];
  const base = classes.at(-1)?.rate;
  const rows = ["committee", "periphery"].flatMap((side) => bound[side].map(([text, rate, domains, count]) =>
    make("tr", {}, make("td", { className: "left" }, side), make("td", { className: "left" }, token(text)), make("td", {}, show(rate)), make("td", {}, String(domains)), make("td", {}, count.toLocaleString("en")))));
  find("tokens").replaceChildren(tableHead(["Bound to the", "Token", "Committee’s share", "Domains", "Count"], [0, 1]), make("tbody", {}, ...rows));
  find("tokens-none").hidden = rows.length > 0;
  const said = classes.slice(0, -1).map((row) => `${row.class} ${show(row.rate)}`);
  find("classes").textContent = said.length ? `Share of selections that fall on the committee: all tokens ${show(base)}; ${said.join(", ")}.` : "";
}

// ---- sections that only some runs have

function writeMasking() {
  find("masking-part").hidden = run.masking.length === 0;
  run.masking.forEach((entry, index) => {
    const id = `masking-${index}`;
    const node = make("figure", { id, className: "figure", role: "img" });
    node.style.height = `${30 * entry.rows.length + (narrow() ? 220 : 110)}px`; // a narrow legend has a line for each mark
    const rows = entry.rows.map((row) => make("tr", {}, make("td", { className: "left" }, row.layer === "all" ? "all layers" : `layer ${row.layer}`), make("td", { className: "left" }, row.set + (row.fallback ? " (fallback)" : "")),
      make("td", {}, String(row.size)), make("td", {}, show(row.mass)), make("td", {}, show(row.drop), bounds(row.interval)), ...[row.random, row.matched].map((of) => make("td", {}, show(of?.mean), make("small", {}, of ? ` p ${showP(of.p)}` : ""))),
      make("td", {}, show(row.predicted)), make("td", {}, show(row.effect), bounds(row.effect_interval), row.extrapolated ? make("small", { className: "flag" }, " beyond the controls") : "")));
    const head = tableHead(["Masked", "Set", "Experts", "Removed mass", "Drop", "Random sets", "Sets of equal mass", "Predicted", "Effect"], [0, 1]);
    find("masking").append(make("div", {}, make("h3", {}, entry.title + (entry.renormalise ? " (renormalised)" : "")), make("p", { className: "note" }, entry.sentence), make("div", { className: "scroll" }, node),
      make("details", {}, make("summary", {}, "The numbers"), make("div", { className: "scroll" }, make("table", {}, head, make("tbody", {}, ...rows))))));
    figure(id, [], (colour) => maskingFigure(entry, colour), () => `${entry.title} of each masked set beside its controls; the numbers are in the table below`);
  });
}

const bounds = (interval) => (interval ? make("small", { className: "interval" }, ` ${showEnds(interval)}`) : "");

function writeBudgets() {
  find("budgets-part").hidden = !run.budgets;
  if (!run.budgets) return;
  find("budgets-missing").textContent = run.budgets.missing ? `No rerun: ${run.budgets.missing}.` : "";
  for (const [name, title] of Object.entries(run.budgets.names)) {
    const id = `budget-${name}`;
    find("budgets").append(make("div", {}, make("h3", {}, title), make("figure", { id, className: "figure", role: "img" })));
    figure(id, [], (colour) => budgetFigure(run.budgets, name, colour), () => `${title} over K`);
  }
}

function writeSignal() {
  const units = { mutual_information: ["Domain and chosen expert", "bits"], silhouette: ["Silhouette", "mean of questions"] };
  for (const [test, [title, unit]] of Object.entries(units)) {
    if (run.signal[test].value.every((value) => value === null)) continue;
    const id = `signal-${test}`;
    find("signal").append(make("div", {}, make("h3", {}, title), make("figure", { id, className: "figure", role: "img" })));
    figure(id, ["layer"], (colour) => signalFigure(run.signal[test], unit, run.layers[chosen.row].layer, colour), () => `${title} along the layers against permuted domains; each layer’s numbers are with its claim`);
    figures.get(id).click = (point) => chooseLayer(run.signal[test].layer.indexOf(point.x));
  }
}
