"""A sweep's frontier as tables for a terminal and cells of the page, from frontier.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from turnout.quantities import show_count
from turnout.report.kit.text import Table, name

Frontier = Mapping[str, Any]
MEASURES = {
    "loss": "task loss",
    "accuracy": "accuracy",
    "loss_per_byte": "task loss per byte",
    "generalisation_gap": "generalisation gap",
    "loss_accuracy_gap": "loss–accuracy gap",
    "bits_per_parameter": "bits per parameter",
}
UNITS = {
    "loss": "nats per answer token",
    "accuracy": "share right",
    "loss_per_byte": "nats per byte",
    "generalisation_gap": "task loss − training loss",
    "loss_accuracy_gap": "accuracy − predicted",
    "bits_per_parameter": "bits per parameter",
}
EFFECTS = {
    "dense": "MoE against dense, at equal active parameters",
    "top_k": "More chosen experts, at equal TPP",
    "budget": "More active parameters, at equal training loss",
    "learning_rate": "Learning rate, at equal training loss",
    "initializer_range": "Initialisation, at equal training loss",
}
EFFECTS_EMPTY = {
    "dense": "No dense model in the grid has the active parameters of a MoE.",
    "top_k": "No two shapes in the grid differ in K alone at equal TPP.",
    "budget": "The grid has one active budget.",
    "learning_rate": "The grid has one learning rate.",
    "initializer_range": "The grid has one initialisation.",
}
_ROUNDING = 1e-9
_AUDITED = {"gini": "Gini", "coverage": "coverage of the committee", "jaccard_mean": "Jaccard overlap of domains"}


def frontier_tables(found: Frontier) -> list[Table]:
    """A frontier for a terminal: every curve's verdict and best point, and the effects that could be judged."""
    columns = ("curve", "task", "measure", "verdict", "best E [95 %]")
    rows = [
        (curve["name"], one["task"], MEASURES[one["measure"]], _verdict(one), _best(one))
        for curve in found["curves"]
        for one in curve["verdicts"]
    ]
    shapes = Table("shape along the experts", columns, tuple(tuple(name(cell, 70) for cell in row) for row in rows))
    changes = [row for effect in EFFECTS for row in effect_rows(found, effect)]
    effects = Table(
        "paired differences",
        ("contrast", "task", "measure", "difference [95 %]", "seeds", "verdict"),
        tuple(tuple(name(cell, 90) for cell in row) for row in changes if row[-1] != "–"),
    )
    return [table for table in (shapes, effects) if table.rows]


def lead(found: Frontier) -> str:
    """What was trained, in a sentence."""
    failed = f", {len(found['failed'])} failed" if found["failed"] else ""
    budgets = found["budgets"]
    sizes = " and ".join(_range(one["active"]) for one in budgets)
    of = "budget" if len(budgets) == 1 else "budgets"
    return (
        f"{_counted(found['trials'], 'trial')}{failed}: {_counted(len(found['points']), 'shape')}, "
        f"{_counted(len(found['seeds']), 'seed')}; {_counted(len(budgets), 'active ' + of, '')} of {sizes} parameters, "
        f"embeddings included."
    )


def verdict_cell(one: Mapping[str, Any] | None) -> dict[str, str]:
    """A verdict as a short cell, and its sentence."""
    if one is None:
        return {"cell": "–", "words": "not asked"}
    return {"cell": _verdict(one), "words": one["sentence"]}


def verdict_rows(found: Frontier) -> list[list[str]]:
    """Every tested curve: curve, task, measure, verdict, slopes, margin, break, best number of experts, seeds."""
    return [
        [
            curve["name"],
            one["task"],
            MEASURES[one["measure"]],
            _verdict(one),
            _slope(one["left"]),
            _slope(one["right"]),
            "–" if one["margin"] is None else f"{one['margin']:.2g}",
            ", ".join(f"{at:g}" for at in sorted(set(one["breaks"]))) or "–",
            _best(one),
            _edge(one),
            str(len(one["seeds"])),
        ]
        for curve in found["curves"]
        for one in curve["verdicts"]
    ]


def effect_rows(found: Frontier, effect: str) -> list[list[str]]:
    """Differences of one kind: contrast, task, measure, difference with interval, seeds, verdict."""
    return [
        [
            one["contrast"],
            one["task"],
            MEASURES[one["measure"]],
            _interval({"mean": one["difference"], **one}),
            str(one["n"]),
            one["verdict"] or one["reason"] or "–",
        ]
        for one in found["effects"]
        if one["effect"] == effect
    ]


def audit_rows(found: Frontier) -> list[list[str]]:
    """Slopes of audit measures: curve, measure, slope with interval, seeds, verdict."""
    return [
        [
            found["curves"][one["curve"]]["name"],
            _AUDITED[one["measure"]],
            _interval(one),
            str(one["n"]),
            one["verdict"] or one["reason"] or "–",
        ]
        for one in found["audit"]
    ]


def point_rows(found: Frontier, task: str) -> list[list[str]]:
    """Every shape: what it is, training loss, then the task's measures with intervals."""
    return [
        [
            point["name"],
            _range([point["active"]]),
            show_count(point["total"]),
            "dense" if point["dense"] else f"{point['sparsity']:.3f}",
            f"{point['tpp']:.3g}",
            str(point["failed"]),
            _interval(point["values"].get("training", {}).get("loss")),
            *(_interval(point["values"].get(task, {}).get(measure)) for measure in MEASURES),
        ]
        for point in found["points"]
    ]


def _verdict(one: Mapping[str, Any]) -> str:
    if one["verdict"] is None:
        return "no verdict"
    if one["verdict"] == "monotone":
        return f"monotone: {one['better']} better"
    return str(one["verdict"])


def _best(one: Mapping[str, Any]) -> str:
    best = one["optimum"]
    return "–" if best is None else f"{best['experts']:.3g} [{best['low']:.3g}, {best['high']:.3g}]"


def _edge(one: Mapping[str, Any]) -> str:
    return "–" if one["optimum"] is None else f"{one['optimum']['at_edge']:.0%}"


def _slope(slope: Mapping[str, float] | None) -> str:
    if slope is None:
        return "–"
    return f"{_interval(slope)}, p {slope['p']:.2g}"


def _interval(value: Mapping[str, Any] | None) -> str:
    if value is None or value["mean"] is None:
        return "–"
    ends = "" if value["low"] is None else f" [{_figure(value['low'])}, {_figure(value['high'])}]"
    return f"{_figure(value['mean'])}{ends}"


def _figure(value: float) -> str:
    """Three digits; what is rounding is 0."""
    return "0" if abs(value) < _ROUNDING else f"{value:.3g}"


def _range(sizes: Sequence[int]) -> str:
    ends = list(dict.fromkeys(show_count(size) for size in sizes))
    return " to ".join(ends)


def _counted(n: int, what: str, plural: str = "s") -> str:
    return f"{n} {what}" + (plural if n != 1 else "")
