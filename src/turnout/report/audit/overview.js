// Above the layers: header, claim, tiles and profiles of the measures; and at the end questions, facts and terms.

function writeHeader() {
  writeTitle(run.title);
  find("words").append(...run.words.map((sentence) => make("p", { dir: "auto" }, sentence)));
  find("overview-lead").append(run.lead);
  find("marks-note").append(run.marks_note);
  writePairs("facts", run.facts);
  writePairs("terms", run.terms);
}

function writeClaimBox() {
  find("claim-box").classList.add(verdictClass(run.verdict));
  find("headline").append(run.headline);
  writeItems("findings", run.findings);
  find("notes").append(...run.notes.map((line) => make("p", {}, line)));
  if (run.layers.some((layer) => layer.claim)) writeStrip();
  else find("strip").remove();
}

/** A button for each layer with the symbol of its verdict, and the legend of the symbols. */
function writeStrip() {
  find("strip").append(...run.layers.map((layer, row) => {
    const name = `Layer ${layer.layer}: ${layer.claim ?? "no claim"}`;
    const button = make("button", { type: "button", className: verdictClass(layer.claim), title: name, "aria-label": name }, run.symbols[layer.claim] ?? "–", make("small", {}, String(layer.layer)));
    button.addEventListener("click", () => { selectLayer(row); find("detail").scrollIntoView(); });
    return button;
  }));
  const used = new Set(run.layers.map((layer) => layer.claim));
  const symbols = Object.entries(run.symbols).filter(([verdict]) => used.has(verdict));
  find("strip-legend").append(...symbols.map(([verdict, symbol]) => make("span", {}, `${symbol} ${verdict}`)));
}

function tile(entry) {
  const { label: name, format, direction } = measureOf[entry.measure];
  const write = (value) => inFormat(value, format);
  const ranges = [entry.interval ? showEnds(entry.interval, write) : "no interval", `layers ${write(entry.min)} to ${write(entry.max)}`, nullsOf(entry, format).join(", ") || "no null"];
  return make("div", { className: "tile", title: `Higher: ${direction}` }, make("span", { className: "name" }, name), make("span", { className: "number" }, write(entry.mean)),
    ...ranges.map((range) => make("span", { className: "range" }, range)));
}

function writeTiles() {
  find("tiles").append(...run.overall.map(tile));
  run.overall[0].without.forEach(([domain], index) => {
    const means = run.overall.map((entry) => `${measureOf[entry.measure].label} ${inFormat(entry.without[index][1], measureOf[entry.measure].format)}`);
    find("tiles").after(make("p", {}, "Without ", named(domain), `: ${means.join(", ")}.`));
  });
}

function addProfiles() {
  for (const { measure: name } of run.overall.filter((entry) => entry.mean !== null)) {
    const [id, measure] = [`profile-${name}`, measureOf[name]];
    find("profiles").append(make("div", {}, make("h3", {}, measure.label), make("figure", { id, className: "figure", role: "img" })));
    addFigure(id, {
      shows: ["layer"],
      build: (color) => profileFigure(run.profiles[name], measure, run.layers[selected.row].layer, color),
      describe: () => `${measure.label} by layer; the table below has the numbers`,
      click: (point) => selectLayer(run.profiles[name].layer.indexOf(point.x)),
    });
  }
}

function writeQuestions() {
  const scored = run.questions.some((row) => row.accuracy !== null);
  const domain = (row) => make("td", { className: "left name" }, named(row.domain), row.dropped ? " (left out)" : "");
  const rows = run.questions.map((row) => make("tr", {}, domain(row), ...[String(row.questions), ...(scored ? [show(row.accuracy)] : [])].map((text) => make("td", {}, text))));
  find("questions").append(tableHead(["Domain", "Questions", ...(scored ? ["Accuracy"] : [])], [0]), make("tbody", {}, ...rows));
}
