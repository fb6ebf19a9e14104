"""Sentences, facts and terms on an audit's page: model, prompts, kind of contribution, how to read the figures."""

from typing import Any

from turnout.quantities import show_count
from turnout.report.audit import evidence
from turnout.report.audit.stored import StoredRun
from turnout.report.kit.text import counted, span

KIND_NAMES = {
    "gate": "gate: mean routing score",
    "frequency": "frequency: how often chosen",
    "weight": "weight: mean routing weight",
    "released": "released: as in the authors’ code",
}

_READS = {
    "gate": "the mean of its routing score over all experts",
    "frequency": "how often it is chosen",
    "weight": "the mean routing weight that the model applies to it",
    "released": "its scaled weight times its frequency, as in the paper’s published code",
}

_SCOPES = {"last": "at the last token of each prompt", "all": "over all tokens of each prompt"}


def title(run: StoredRun) -> str:
    """The model's id, or its architecture where it has none."""
    model = run.audit["model"]
    return str(model.get("id") or model.get("architecture") or "model without a name")


def sentences(run: StoredRun) -> list[str]:
    """The header: model, prompts, kind of contribution, and accuracy where answers were scored."""
    return [_model(run), _tasks(run), _contribution(run), *_accuracy(run)]


def lead(run: StoredRun) -> str:
    """What the overview contains, and in how many layers the committee is a fallback."""
    fallbacks = sum(bool(layer["fallback"]) for layer in run.layers)
    note = f" In {fallbacks} of {len(run.layers)} layers it is only a fallback." if fallbacks else ""
    sizes = [len(layer["committee"]) for layer in run.layers]
    return (
        f"Committees have {span(sizes)} {'expert' if max(sizes) == 1 else 'experts'}.{note} Each tile: the mean over "
        "layers, in brackets the mean of the layers’ intervals, then the lowest and highest layer. The ring marks the "
        "layer that is shown below."
    )


def notes(run: StoredRun) -> list[str]:
    """How to read intervals and nulls, and which figures have none and why."""
    missing = evidence.missing(run.audit)
    return [_reading(run), *missing, _without_interval(run)] if evidence.level(run.layers) else missing


def _reading(run: StoredRun) -> str:
    floors = [f"{measure.floor_formula} for {measure.label}" for measure in run.measures if measure.floor_formula]
    return (
        "A bracket or band is a 95 % interval. Dashed: the floor, the value of a router that treats all experts alike "
        f"({', '.join(floors)}). Dotted: the 95 % quantile of rotated routers, as strong as this one but untrained. "
        "Dash-dotted, for Jaccard: the ceiling, the overlap of domains with permuted labels."
    )


def _without_interval(run: StoredRun) -> str:
    by_expert = [] if "low" in run.tables["contribution"].columns else ["contributions of single experts"]
    figures = [*by_expert, "ranks", "single pairs of domains", "Lorenz curves", "tokens", "partners", "budgets"]
    return (
        f"No interval of their own: {', '.join(figures)}. They describe; the claim does not use them. The z of a token "
        "or partner orders a list and is not a p-value."
    )


def marks_note(run: StoredRun) -> str:
    """The kind of contribution by which the map marks committee and candidates."""
    return f"Committee and candidates are by {run.audit['kind']}, whichever kind the map shows."


def facts(run: StoredRun) -> list[list[str]]:
    """Term and value of everything that identifies the run: revision, digests, domain map, versions, seed."""
    model, tasks = run.audit["model"], run.audit["tasks"]
    versions = run.manifest.get("versions")
    entries: list[list[Any]] = [
        ["Model", model.get("id")],
        ["Revision", model.get("revision")],
        ["Weights, SHA-256", model.get("digest")],
        ["Questions", tasks.get("name")],
        ["Domain map", tasks.get("domain_map")],
        ["Domains with one question", ", ".join(tasks.get("one_sample_domains") or []) or None],
        ["Questions, SHA-256", tasks.get("digest")],
        ["Kind and scope", f"{run.audit['kind']}, {run.audit['scope']}"],
        ["Seed", run.manifest.get("seed")],
        *([name, version] for name, version in (versions if isinstance(versions, dict) else {}).items()),
    ]
    return [[term, str(value)] for term, value in entries if value is not None]


def terms(run: StoredRun) -> list[list[str]]:
    """The definition of each figure, term and sentence."""
    presence = f"{100 * run.audit['config']['presence']:.3g} %"
    return [
        ["Contribution", "An expert’s part of the routing of a domain’s prompts. The map shows each of its kinds."],
        ["Candidates", f"Experts among the first K of at least {presence} of the domains."],
        ["Committee (C)", "The Pareto set of the candidates: no other ranks both higher and more steadily."],
        *([measure.label, measure.description] for measure in run.measures),
        ["Core set", "All candidates, chosen on a random half of each subject and tested on the other half."],
        ["Stability", "The share of resamples in which an expert is candidate; it is not a confidence."],
        [
            "Fallback",
            "No expert is in the first K of enough domains. The most frequent ones are shown; no claim is made.",
        ],
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
    model, layers = run.audit["model"], run.layers
    kind = ", ".join(str(model[key]) for key in ("architecture", "dtype") if model.get(key))
    size = f", {show_count(model['parameters'])} parameters" if model.get("parameters") else ""
    shared = max(layer["shared"] for layer in layers)
    plus = f", and {counted(shared, 'shared expert')}" if shared else ""
    experts, top_k = (span([layer[key] for layer in layers]) for key in ("experts", "top_k"))
    about = f"{kind}{size}" or "Mixture of Experts"
    return f"{about}: {counted(len(layers), 'MoE layer')} of {experts} routed experts, {top_k} chosen per token{plus}."


def _tasks(run: StoredRun) -> str:
    tasks, dropped = run.audit["tasks"], run.audit["dropped_domains"]
    by = "as in the file" if tasks["domain_map"] == "file" else f"domain map {tasks['domain_map']}"
    without = f"; {counted(len(dropped), 'domain')} of low specificity left out of the figures" if dropped else ""
    asked = counted(tasks["questions"], "question")
    return f"Prompts: {asked} of {tasks['name']} in {counted(len(run.domains), 'domain')} ({by}){without}."


def _contribution(run: StoredRun) -> str:
    reads = _READS.get(run.audit["kind"], run.audit["kind"])
    scope = _SCOPES.get(run.audit["scope"], run.audit["scope"])
    return f"Contribution of an expert to a domain: {reads}, {scope}."


def _accuracy(run: StoredRun) -> list[str]:
    overall = (run.audit["accuracy"] or {"overall": None})["overall"]
    if overall is None:
        return []
    low, high = (f"{100 * bound:.1f}" for bound in overall["interval"])
    return [
        f"Accuracy: {100 * overall['accuracy']:.1f} % of {counted(overall['questions'], 'question')} "
        f"(95 % interval {low} to {high} %)."
    ]
