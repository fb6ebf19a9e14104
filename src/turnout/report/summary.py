"""An audit in a terminal: one table of layers, one of domains."""

from collections.abc import Mapping
from typing import Any

from turnout.report.figures import floor, overview
from turnout.report.terminal import Table, against, experts, name, number

_COLUMNS = {
    "coverage": "coverage",
    "coverage_topk": "top-K",
    "gini": "Gini",
    "gini_topk": "top-K",
    "jaccard_mean": "Jaccard",
}


def summary(audit: Mapping[str, Any]) -> list[Table]:
    """Tables of an audit (audit.json's object): figures by layer with their floors, then domains.

    Floors (|C|/E, |C|/K, 1−K/E) stand in parentheses; a committee marked * is a fallback; `cand` counts candidates.
    """
    return [_layers(audit), _domains(audit)]


def _layers(audit: Mapping[str, Any]) -> Table:
    layers = audit["layers"]
    rows = [
        (str(layer["layer"]), _committee(layer), str(len(layer["candidates"])), *_figures(layer)) for layer in layers
    ]
    means = {entry["measure"]: against(entry["mean"], entry["floor"]) for entry in overview(audit)}
    rows.append(("mean", "", "", *(means[measure] for measure in _COLUMNS)))
    mark = "; * fallback" if any(layer["fallback"] for layer in layers) else ""
    title = f"{name(audit['model'].get('id'))}, {audit['kind']} at {audit['scope']}; floors in parentheses{mark}"
    return Table(title, ("layer", "committee", "cand", *_COLUMNS.values()), tuple(rows))


def _committee(layer: Mapping[str, Any]) -> str:
    return experts(layer["committee"]) + ("*" if layer["fallback"] else "")


def _figures(layer: dict[str, Any]) -> tuple[str, ...]:
    return tuple(against(layer[measure], floor(layer, measure)) for measure in _COLUMNS)


def _domains(audit: Mapping[str, Any]) -> Table:
    accuracy = (audit["accuracy"] or {"domains": None})["domains"]
    rows = tuple(
        (name(domain), str(count), number(_specificity(audit, domain)), *_right(accuracy, domain))
        for domain, count in audit["tasks"]["domains"].items()
    )
    columns = ("domain", "questions", "specificity", *(["accuracy"] if accuracy else []))
    return Table(f"{name(audit['tasks']['name'])}; specificity is the mean over layers", columns, rows)


def _specificity(audit: Mapping[str, Any], domain: str) -> float | None:
    values = [(layer["specificity"] or {}).get(domain) for layer in audit["layers"]]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _right(accuracy: Mapping[str, Any] | None, domain: str) -> tuple[str, ...]:
    if accuracy is None:
        return ()
    return (number((accuracy.get(domain) or {}).get("accuracy")),)
