// One expert: the map in which it is selected, and its card.

const domainName = () => (selected.domain === 0 ? "mean over domains" : label(run.domains[selected.domain - 1], 60));

function writeCard() {
  const layer = run.layers[selected.row];
  const value = (column) => run.experts[column].row(selected.row)[selected.expert];
  const kept = run.questions.filter((row) => !row.dropped).length;
  const contribution = run.map[selected.kind].row(selected.domain, selected.row)[selected.expert];
  find("card-title").textContent = `Layer ${layer.layer}, expert ${selected.expert}: ${roleOf(layer, selected.expert)}`;
  writePairs("card-facts", [
    [selected.domain === 0 ? "Mean contribution" : `Contribution in ${label(run.domains[selected.domain - 1])}`, show(contribution)],
    ["Share of the layer", show(value("share"))],
    ["Mean rank", show(value("mean_rank"))],
    ["Variance of rank", show(value("rank_variance"))],
    ["In the first K of", `${Math.round(value("presence") * kept)} of ${kept} domains`],
    ...cardStability(value), ...cardTokens(), ...cardPartners(),
  ]);
}

function cardStability(value) {
  const [candidate, member] = ["candidate_stability", "member_stability"].map(value);
  if (Number.isNaN(candidate)) return [];
  return [["Of resamples", `candidate in ${Math.round(100 * candidate)} %, member in ${Math.round(100 * member)} %`]];
}

function cardTokens() {
  if (!run.expert_tokens) return [];
  const places = Array.from(run.expert_tokens.row(selected.row, selected.expert)).filter((place) => !Number.isNaN(place));
  const words = places.length ? places.flatMap((place) => [token(run.token_texts[place]), " "]) : ["none above chance"];
  return [["Tokens", make("span", {}, ...words)]];
}

function cardPartners() {
  if (!run.expert_partners) return [];
  const relations = ["Partners in this layer", "In the previous layer", "In earlier layers"];
  return relations.flatMap((name, relation) => {
    const partners = [0, 1, 2].map((place) => Array.from(run.expert_partners.row(selected.row, selected.expert, relation, place))).filter(([layer]) => !Number.isNaN(layer));
    const words = partners.map(([layer, expert, lift]) => `${relation === 2 ? `${layer}/` : ""}${expert} (×${lift >= 100 ? lift.toFixed(0) : lift.toFixed(1)})`);
    return words.length ? [[name, words.join(", ")]] : [];
  });
}

function addExpertFigures() {
  const wide = Math.max(...run.layers.map((layer) => layer.experts));
  const height = Math.max(220, Math.min(760, 18 * run.layers.length + 60));
  find("map").style.height = `${height}px`;
  find("card-figure").style.height = `${(run.domains.length > 20 ? 16 : 22) * run.domains.length + 50}px`;
  addFigure("map", {
    shows: ["layer", "expert", "domain", "kind", "scale"],
    build: (color) => {
      find("map").style.minWidth = printing() ? "0" : `${6 * wide + 120}px`;
      const across = (find("map").clientWidth - 130) / wide;
      return mapFigure(run, selected, color, Math.min(across, (height - 46) / run.layers.length));
    },
    describe: () => `Contribution of ${wide} experts in ${run.layers.length} layers, ${domainName()}; arrow keys move the selected expert`,
    click: (point) => selectExpert(run.layers.findIndex((layer) => String(layer.layer) === String(point.y)), Number(point.x)),
  });
  addFigure("card-figure", {
    shows: ["layer", "expert", "domain", "kind"],
    build: (color) => cardFigure(run, selected, color, narrow()),
    describe: () => "Contribution of the selected expert by domain",
  });
}
