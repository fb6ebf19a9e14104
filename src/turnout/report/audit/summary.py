"""Tables of an audit for a terminal: figures by layer, and domains."""

from collections.abc import Mapping, Sequence
from typing import Any

from turnout.report.audit.evidence import level
from turnout.report.audit.figures import overview
from turnout.report.audit.measures import Measure, measures_of
from turnout.report.kit.text import Table, against, experts, mean, name, number

Column = tuple[str, list[str]]

_WIDTH = 80
_VERDICTS = {"dominant committee": "dominant", "core": "core", "none": "none", "cannot tell": "?"}


def summary(audit: Mapping[str, Any]) -> list[Table]:
    """Tables of an audit (audit.json's content): figures by layer with intervals and floors, then domains.

    95 % intervals are in brackets, floors in parentheses; a committee marked * is a fallback; `cand` is the number of
    candidates. `claim_lines` has the claim in sentences.
    """
    return [*_layers(audit), _domains(audit)]


def _layers(audit: Mapping[str, Any]) -> list[Table]:
    """The columns of all layers, in as few tables as fit 80 terminal columns."""
    layers, resampled = audit["layers"], level(audit["layers"])
    means = {entry["measure"]: entry for entry in overview(audit)}
    numbers: Column = ("layer", [*(str(layer["layer"]) for layer in layers), "mean"])
    measured = [_measure(measure, layers, means[measure.name]) for measure in measures_of(audit)]
    groups = _fitted(numbers, [*_identity(layers, claimed=resampled is not None), *measured])
    mark = "; * fallback" if any(layer["fallback"] for layer in layers) else ""
    read = f"[95 % interval over {resampled}] (floor)" if resampled else "floors in parentheses"
    first = f"{name(audit['model'].get('id'))}, {audit['kind']} at {audit['scope']}; {read}{mark}"
    titles = [first, *("more measures" for _ in groups[1:])]
    return [
        Table(title, tuple(head for head, _ in columns), tuple(zip(*(cells for _, cells in columns), strict=True)))
        for title, columns in zip(titles, groups, strict=True)
    ]


def _fitted(first: Column, columns: Sequence[Column]) -> list[list[Column]]:
    """Columns in groups of at most 80 characters, each group with the column `first`."""
    groups, width = [[first]], _wide(first)
    for column in columns:
        if width + 2 + _wide(column) > _WIDTH and len(groups[-1]) > 1:
            groups.append([first])
            width = _wide(first)
        groups[-1].append(column)
        width += 2 + _wide(column)
    return groups


def _wide(column: Column) -> int:
    return max(map(len, [column[0], *column[1]]))


def _identity(layers: Sequence[Mapping[str, Any]], claimed: bool) -> list[Column]:
    """Committee, number of candidates and, where claims are tested, the verdict."""
    committees = [experts(layer["committee"]) + ("*" if layer["fallback"] else "") for layer in layers]
    verdicts = [_VERDICTS.get(str((layer["claim"] or {}).get("verdict")), "–") for layer in layers]
    return [
        ("committee", [*committees, ""]),
        ("cand", [*(str(len(layer["candidates"])) for layer in layers), ""]),
        *([("claim", [*verdicts, ""])] if claimed else []),
    ]


def _measure(measure: Measure, layers: Sequence[Mapping[str, Any]], over_layers: Mapping[str, Any]) -> Column:
    cells = [
        against(layer[measure.name], measure.null(layer, "floor"), measure.interval(layer), measure.short_format)
        for layer in layers
    ]
    return measure.short, [*cells, against(over_layers["mean"], over_layers["floor"], form=measure.short_format)]


def _domains(audit: Mapping[str, Any]) -> Table:
    accuracy = (audit["accuracy"] or {"domains": None})["domains"]
    rows = tuple(
        (name(domain), str(count), number(_specificity(audit, domain)), *_accuracy(accuracy, domain))
        for domain, count in audit["tasks"]["domains"].items()
    )
    columns = ("domain", "questions", "specificity", *(["accuracy"] if accuracy else []))
    return Table(f"{name(audit['tasks']['name'])}; specificity is the mean over layers", columns, rows)


def _specificity(audit: Mapping[str, Any], domain: str) -> float | None:
    return mean([(layer["specificity"] or {}).get(domain) for layer in audit["layers"]])


def _accuracy(accuracy: Mapping[str, Any] | None, domain: str) -> tuple[str, ...]:
    return () if accuracy is None else (number((accuracy.get(domain) or {}).get("accuracy")),)
