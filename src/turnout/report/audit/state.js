// The run's data, unpacked, and what is selected: layer (by row), expert, domain (0 is the mean), kind, scale, table order.

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

const measureOf = Object.fromEntries(run.measures.map((measure) => [measure.name, measure]));
const selected = { row: run.start.row, expert: run.start.expert, domain: 0, kind: run.kind, scale: "linear" };
const order = { column: "layer", down: false };

const VERDICTS = [null, "none", "cannot tell", "core", "dominant committee"];
const verdictClass = (verdict) => (verdict ?? "unclaimed").replace(" ", "-");

/** Whether a measure is between 0 and 1. */
const isShare = (measure) => measure.bounds[0] === 0 && measure.bounds[1] === 1;

/** The nulls of a figure in words: floor, rotated router, ceiling. */
function nullsOf(figure, form) {
  const nulls = ["floor", "rotated", "ceiling"].filter((name) => figure[name] !== null);
  return nulls.map((name) => `${name} ${inFormat(figure[name], form)}`);
}

/** Expert numbers, the first `longest` and how many more. */
function listExperts(experts, longest = 16) {
  if (experts.length <= longest) return experts.join(", ");
  return `${experts.slice(0, longest).join(", ")} and ${experts.length - longest} more`;
}

function roleOf(layer, expert) {
  if (layer.committee.includes(expert)) return "committee";
  return layer.candidates.includes(expert) ? "candidate" : "neither";
}

/** A token's text with blanks and line ends made visible. */
function token(text) {
  const visible = String(text).replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/^ | $/g, "␣");
  return make("bdi", { className: "token" }, label(visible, 24));
}
