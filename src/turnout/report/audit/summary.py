"""An audit in a terminal: one table of layers, one of domains."""

from collections.abc import Callable, Mapping
from typing import Any

from turnout.report.audit.evidence import floor, interval, level
from turnout.report.audit.figures import overview
from turnout.report.kit.text import Table, against, experts, name, number

Cell = Callable[[Mapping[str, Any]], str]

_SHORT = {"dominant committee": "dominant", "core": "core", "none": "none", "cannot tell": "?"}
_COLUMNS = {
    "coverage": "coverage",
    "coverage_topk": "top-K",
    "gini": "Gini",
    "gini_topk": "top-K",
    "jaccard_mean": "Jaccard",
}


def summary(audit: Mapping[str, Any]) -> list[Table]:
    """Tables of an audit (audit.json's object): figures by layer with intervals and floors, then domains.

    95 % intervals stand in brackets, floors (|C|/E, |C|/K, 1−K/E) in parentheses; a committee marked * is a fallback;
    `cand` counts candidates. What the claim says in words: `claim_lines`.
    """
    return [*_layers(audit), _domains(audit)]


def _layers(audit: Mapping[str, Any]) -> list[Table]:
    """One table where no figure has an interval; else two, each within 80 columns."""
    layers = audit["layers"]
    bounded = level(layers) is not None
    mark = "; * fallback" if any(layer["fallback"] for layer in layers) else ""
    read = "[95 % interval] (floor)" if bounded else "floors in parentheses"
    title = f"{name(audit['model'].get('id'))}, {audit['kind']} at {audit['scope']}; {read}{mark}"
    if not bounded:
        return [_table(audit, title, _WHO, tuple(_COLUMNS))]
    return [
        _table(audit, title, {**_WHO, "claim": _verdict}, ("coverage", "coverage_topk")),
        _table(audit, f"intervals rest on {level(layers)}", {}, ("gini", "gini_topk", "jaccard_mean")),
    ]


def _table(audit: Mapping[str, Any], title: str, who: Mapping[str, Cell], measures: tuple[str, ...]) -> Table:
    rows = [
        (str(layer["layer"]), *(cell(layer) for cell in who.values()), *(_figure(layer, m) for m in measures))
        for layer in audit["layers"]
    ]
    means = {entry["measure"]: against(entry["mean"], entry["floor"]) for entry in overview(audit)}
    rows.append(("mean", *("" for _ in who), *(means[measure] for measure in measures)))
    return Table(title, ("layer", *who, *(_COLUMNS[measure] for measure in measures)), tuple(rows))


def _committee(layer: Mapping[str, Any]) -> str:
    return experts(layer["committee"]) + ("*" if layer["fallback"] else "")


def _candidates(layer: Mapping[str, Any]) -> str:
    return str(len(layer["candidates"]))


def _verdict(layer: Mapping[str, Any]) -> str:
    verdict = (layer["claim"] or {}).get("verdict")
    return _SHORT.get(str(verdict), "–")


def _figure(layer: Mapping[str, Any], measure: str) -> str:
    return against(layer[measure], floor(layer, measure), interval(layer, measure))


_WHO: dict[str, Cell] = {"committee": _committee, "cand": _candidates}


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
