"""What the page says in sentences: whose routing it is, what was asked, how to read it."""

from typing import Any

from turnout.report.audit import evidence
from turnout.report.audit.stored import StoredRun

NAMES = {
    "coverage": "Coverage",
    "coverage_topk": "Coverage, top K",
    "gini": "Gini",
    "gini_topk": "Gini, top K",
    "jaccard_mean": "Jaccard",
    "influence_ratio": "Influence ratio",
}

KIND_NAMES = {
    "gate": "gate: mean routing score",
    "frequency": "frequency: share of times chosen",
    "weight": "weight: mean applied weight",
    "released": "released: as the authors’ code computes it",
}

_READS = {
    "gate": "the mean of its full routing score",
    "frequency": "how often it was chosen",
    "weight": "the mean weight that the model applied to it",
    "released": "its scaled weight times its frequency, as the paper’s published code computes it",
}

READING = (
    "A bracket or band is a 95 % interval. Dashed: the floor, which a router reaches without any structure (|C|/E for "
    "coverage, |C|/K for its top-K form, 1−K/E for top-K Gini, 1 for the influence ratio). Dotted: the 95 % quantile "
    "of rotated routers, as strong as this one but untrained. Dash-dotted, for Jaccard: the ceiling, what domains "
    "would share if they did not differ."
)

_SCOPES = {"last": "at the last token of each prompt", "all": "over all tokens of each prompt"}


def title(run: StoredRun) -> str:
    """The model's id, or its architecture where it has none."""
    model = run.audit["model"]
    return str(model.get("id") or model.get("architecture") or "model without a name")


def sentences(run: StoredRun) -> list[str]:
    """The header: the model, the questions, how contribution was read, and accuracy where answers were scored."""
    return [_model(run), _tasks(run), _reading(run), *_accuracy(run)]


def lead(run: StoredRun) -> str:
    """What the overview shows, and in how many layers the committee is a fallback."""
    fallbacks = sum(bool(layer["fallback"]) for layer in run.layers)
    note = f" In {fallbacks} of {len(run.layers)} layers it is only a fallback." if fallbacks else ""
    sizes = [len(layer["committee"]) for layer in run.layers]
    return (
        f"Means over layers; in brackets the mean of the layers’ intervals, then the least and the greatest layer. The "
        f"ring marks the layer chosen below. Committees have {_range(sizes)} "
        f"{'expert' if max(sizes) == 1 else 'experts'}.{note}"
    )


def notes(run: StoredRun) -> list[str]:
    """How to read intervals and nulls, and which figures have none, with the reason."""
    missing = evidence.missing(run.audit)
    return [READING, *missing, _described_only(run)] if evidence.level(run.layers) else missing


def _described_only(run: StoredRun) -> str:
    alone = [] if "low" in run.tables["contribution"].columns else ["contributions of single experts"]
    alone += ["ranks", "single pairs of domains", "Lorenz curves"]
    return (
        f"Without an interval of their own are {', '.join(alone)} (what sums them up has one), tokens and partners "
        "(z orders them; it is no p-value) and budgets (the same samples, cut elsewhere): they describe, and the claim "
        "does not rest on them."
    )


def marks_note(run: StoredRun) -> str:
    """Which kind of contribution the marks on the map are of."""
    return f"Committee and candidates are by {run.audit['kind']}, whatever is drawn."


def facts(run: StoredRun) -> list[list[str]]:
    """Term and value of all that pins the run: revision, digests, map, versions, seed."""
    model, tasks = run.audit["model"], run.audit["tasks"]
    versions = run.manifest.get("versions")
    known: list[list[Any]] = [
        ["Model", model.get("id")],
        ["Revision", model.get("revision")],
        ["Weights, SHA-256", model.get("digest")],
        ["Questions", tasks.get("name")],
        ["Domain map", tasks.get("domain_map")],
        ["One question alone", ", ".join(tasks.get("one_sample_domains") or []) or None],
        ["Questions, SHA-256", tasks.get("digest")],
        ["Kind and scope", f"{run.audit['kind']}, {run.audit['scope']}"],
        ["Seed", run.manifest.get("seed")],
        *([name, version] for name, version in (versions if isinstance(versions, dict) else {}).items()),
    ]
    return [[term, str(value)] for term, value in known if value is not None]


def terms(run: StoredRun) -> list[list[str]]:
    """What each figure means, term and sentence."""
    presence = f"{100 * run.audit['config']['presence']:.3g} %"
    return [
        ["Contribution", "How much of a domain’s routing an expert takes; four readings, chosen above the map."],
        ["Candidates", f"Experts among the first K of at least {presence} of the domains."],
        ["Committee (C)", "The Pareto set of the candidates: none other ranks both higher and more steadily."],
        ["Coverage", "The committee’s share of all experts’ contribution, averaged over domains."],
        [
            "Coverage, top K",
            "The same over each domain’s first K experts only, as published; near |C|/K for any router.",
        ],
        ["Gini", "Inequality of contribution over all experts: 0 when equal, near 1 when one expert takes all."],
        ["Gini, top K", "The same with all but each domain’s first K set to 0, as published; never below 1−K/E."],
        ["Jaccard", "Overlap of two domains’ first K experts, averaged over pairs of domains."],
        ["Influence ratio", "Contribution of a committee member over that of another expert, on average."],
        ["Core set", "All candidates, chosen on a random half of each subject and tested on the other half."],
        ["Stability", "The share of resamples in which an expert is candidate; not a confidence."],
        ["Fallback", "No expert is present in enough domains; the most present ones stand in and support no claim."],
    ]


def questions(run: StoredRun) -> list[dict[str, Any]]:
    """Domains with their number of questions, and accuracy where answers were scored."""
    by_domain = (run.audit["accuracy"] or {"domains": {}})["domains"]
    counts, dropped = run.audit["tasks"]["domains"], run.audit["dropped_domains"]
    return [
        {
            "domain": name,
            "questions": counts[name],
            "accuracy": (by_domain.get(name) or {}).get("accuracy"),
            "dropped": name in dropped,
        }
        for name in run.domains
    ]


def _model(run: StoredRun) -> str:
    model = run.audit["model"]
    kind = ", ".join(str(model[key]) for key in ("architecture", "dtype") if model.get(key))
    size = f", {_size(model['parameters'])} parameters" if model.get("parameters") else ""
    shape = {(layer["experts"], layer["top_k"], layer["shared"]) for layer in run.layers}
    experts = _range([layer["experts"] for layer in run.layers])
    shared = max(shared for _, _, shared in shape)
    plus = f", beside {_count(shared, 'shared expert')}" if shared else ""
    top_k = _range([layer["top_k"] for layer in run.layers])
    about = f"{kind}{size}" or "a Mixture of Experts"
    return (
        f"{about}: {_count(len(run.layers), 'MoE layer')} of {experts} routed experts, {top_k} chosen per token{plus}."
    )


def _tasks(run: StoredRun) -> str:
    tasks = run.audit["tasks"]
    by = " as its rows name them" if tasks["domain_map"] == "file" else f" by the map {tasks['domain_map']}"
    without = run.audit["dropped_domains"]
    left = f"; the figures leave out {_count(len(without), 'domain')} of low specificity" if without else ""
    asked = _count(tasks["questions"], "question")
    return f"It read {asked} of {tasks['name']}, in {_count(len(run.domains), 'domain')}{by}{left}."


def _reading(run: StoredRun) -> str:
    read = _READS.get(run.audit["kind"], run.audit["kind"])
    scope = _SCOPES.get(run.audit["scope"], run.audit["scope"])
    return f"An expert’s contribution to a domain is {read}, {scope}."


def _accuracy(run: StoredRun) -> list[str]:
    overall = (run.audit["accuracy"] or {"overall": None})["overall"]
    if overall is None:
        return []
    low, high = (f"{100 * bound:.1f}" for bound in overall["interval"])
    share = f"{100 * overall['accuracy']:.1f} %"
    return [f"It answered {share} of {overall['questions']:,} questions right (95 % interval {low} to {high} %)."]


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _range(numbers: list[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"


def _size(number: int) -> str:
    for unit, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return str(number)
