// Domain signal and specificity, masking, budgets. A section without data stays hidden.

function addSignals() {
  const tests = { mutual_information: ["Mutual information of domain and chosen expert", "bits"], silhouette: ["Silhouette", "mean of questions"] };
  for (const [test, [title, unit]] of Object.entries(tests)) {
    const signal = run.signal[test];
    if (signal.value.every((value) => value === null)) continue;
    const id = `signal-${test}`;
    find("signal").append(make("div", {}, make("h3", {}, title), make("figure", { id, className: "figure", role: "img" })));
    addFigure(id, {
      shows: ["layer"],
      build: (color) => signalFigure(signal, unit, run.layers[selected.row].layer, color),
      describe: () => `${title} by layer, against permuted domains; each layer’s claim has the numbers`,
      click: (point) => selectLayer(signal.layer.indexOf(point.x)),
    });
  }
}

function addSpecificity() {
  find("specificity").style.height = `${(run.domains.length > 20 ? 16 : 26) * run.domains.length + 60}px`;
  find("specificity").style.minWidth = `${10 * run.layers.length + 180}px`;
  addFigure("specificity", { build: (color) => specificityFigure(run, color, narrow()), describe: () => "Specificity of each domain in each layer" });
}

const intervalNote = (interval) => (interval ? make("small", { className: "interval" }, ` ${showEnds(interval)}`) : "");

function addMasking() {
  find("masking-part").hidden = run.masking.length === 0;
  run.masking.forEach((entry, index) => {
    const id = `masking-${index}`;
    const node = make("figure", { id, className: "figure", role: "img" });
    node.style.height = `${30 * entry.rows.length + (narrow() ? 220 : 110)}px`; // a narrow legend has a line for each mark
    find("masking").append(make("div", {}, make("h3", {}, entry.title + (entry.renormalise ? " (renormalized)" : "")), make("p", { className: "note" }, entry.sentence), make("div", { className: "scroll" }, node),
      make("details", {}, make("summary", {}, "Numbers"), make("div", { className: "scroll" }, maskingTable(entry)))));
    addFigure(id, { build: (color) => maskingFigure(entry, color), describe: () => `${entry.title} for each masked set beside its controls; the table below has the numbers` });
  });
}

function maskingTable(entry) {
  const control = (value) => make("td", {}, show(value?.mean), make("small", {}, value ? ` p ${showP(value.p)}` : ""));
  const row = (set) => make("tr", {}, make("td", { className: "left" }, set.layer === "all" ? "all layers" : `layer ${set.layer}`), make("td", { className: "left" }, set.set + (set.fallback ? " (fallback)" : "")),
    make("td", {}, String(set.size)), make("td", {}, show(set.mass)), make("td", {}, show(set.drop), intervalNote(set.interval)), control(set.random), control(set.matched), make("td", {}, show(set.predicted)),
    make("td", {}, show(set.effect), intervalNote(set.effect_interval), set.extrapolated ? make("small", { className: "flag" }, " more mass than any control") : ""));
  const head = tableHead(["Masked", "Set", "Experts", "Removed mass", "Drop", "Random sets", "Sets of equal mass", "Predicted", "Effect"], [0, 1]);
  return make("table", {}, head, make("tbody", {}, ...entry.rows.map(row)));
}

function addBudgets() {
  const { budgets } = run;
  find("budgets-part").hidden = !budgets;
  if (!budgets) return;
  find("budgets-missing").textContent = budgets.missing ? `No rerun: ${budgets.missing}.` : "";
  for (const [name, title] of Object.entries(budgets.names)) {
    const id = `budget-${name}`;
    find("budgets").append(make("div", {}, make("h3", {}, title), make("figure", { id, className: "figure", role: "img" })));
    addFigure(id, { build: (color) => budgetFigure(budgets, name, color), describe: () => `${title} against K` });
  }
}
