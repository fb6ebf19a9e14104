// Selection and controls; then the start of the page: words first, figures once Plotly (the last script) is loaded.

function selectExpert(row, expert) {
  const layerChanged = row !== selected.row;
  selected.row = row;
  selected.expert = Math.max(0, Math.min(run.layers[row].experts - 1, expert));
  writeCard();
  writeExperts();
  if (layerChanged) { writeTable(); writeDetail(); }
  refresh("expert", ...(layerChanged ? ["layer"] : []));
}

const selectLayer = (row) => selectExpert(row, run.layers[row].committee[0] ?? 0);

/** Let a control of the map select a domain, kind or scale. */
function watchControl(id, read, write = () => {}) {
  find(id).addEventListener("change", (event) => { selected[id] = read(event.target.value); write(); refresh(id); });
}

function moveByKey(event) {
  const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!move) return;
  event.preventDefault();
  selectExpert(Math.max(0, Math.min(run.layers.length - 1, selected.row + move[0])), selected.expert + move[1]);
}

function setUpControls() {
  const option = (value, text, isSelected = false) => make("option", { value: String(value), selected: isSelected }, text);
  find("domain").append(option(0, "mean over domains"), ...run.domains.map((name, index) => option(index + 1, label(name, 60))));
  find("kind").append(...run.kinds.map((kind) => option(kind, run.kind_names[kind], kind === run.kind)));
  find("layer").append(...run.layers.map((layer, row) => option(row, `layer ${layer.layer}`)));
  watchControl("domain", Number, writeCard);
  watchControl("kind", String, writeCard);
  watchControl("scale", String);
  find("layer").addEventListener("change", (event) => selectLayer(Number(event.target.value)));
  find("previous").addEventListener("click", () => selectLayer(selected.row - 1));
  find("next").addEventListener("click", () => selectLayer(selected.row + 1));
  find("map").addEventListener("keydown", moveByKey);
}

function setUpFigures() {
  addProfiles();
  addExpertFigures();
  addLayerFigures();
  addSignals();
  addSpecificity();
  addMasking();
  addBudgets();
  watchFigures();
}

writeHeader();
writeClaimBox();
writeTiles();
writeQuestions();
setUpControls();
writeTable();
writeDetail();
writeExperts();
writeCard();
watchPrinting(watchTheme(() => refresh("all")), drawAll);
document.addEventListener("DOMContentLoaded", setUpFigures);
