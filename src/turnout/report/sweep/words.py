"""A sweep in words: terminal tables, and cells and sentences of the page, from frontier.json's content."""

from collections.abc import Mapping, Sequence
from typing import Any

from turnout.quantities import show_count
from turnout.report.audit.measures import measures_of
from turnout.report.kit.text import Table, counted, name

Frontier = Mapping[str, Any]
MEASURES = {
    "loss": "task loss",
    "accuracy": "accuracy",
    "loss_per_byte": "task loss per byte",
    "generalisation_gap": "generalization gap",
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
    "initializer_range": "Initialization, at equal training loss",
}
EFFECTS_EMPTY = {
    "dense": "The grid has no dense model with the active parameters of a MoE.",
    "top_k": "No two shapes of the grid differ in K alone at equal TPP.",
    "budget": "The grid has one active budget.",
    "learning_rate": "The grid has one learning rate.",
    "initializer_range": "The grid has one initialization.",
}
_ROUNDING = 1e-9


def frontier_tables(frontier: Frontier) -> list[Table]:
    """Verdict and best number of experts of each curve, and the paired differences with a verdict."""
    columns = ("curve", "task", "measure", "verdict", "best E [95 %]")
    rows = [
        (curve["name"], result["task"], MEASURES[result["measure"]], _verdict(result), _best(result))
        for curve, result in _results(frontier)
    ]
    shapes = Table("shape along the experts", columns, tuple(tuple(name(cell, 70) for cell in row) for row in rows))
    changes = [row for effect in EFFECTS for row in effect_rows(frontier, effect)]
    effects = Table(
        "paired differences",
        ("contrast", "task", "measure", "difference [95 %]", "seeds", "verdict"),
        tuple(tuple(name(cell, 90) for cell in row) for row in changes if row[-1] != "–"),
    )
    return [table for table in (shapes, effects) if table.rows]


def lead(frontier: Frontier) -> str:
    """What was trained, in a sentence."""
    failed = f", {len(frontier['failed'])} failed" if frontier["failed"] else ""
    budgets = frontier["budgets"]
    sizes = " and ".join(_sizes(budget["active"]) for budget in budgets)
    return (
        f"{counted(frontier['trials'], 'trial')}{failed}: {counted(len(frontier['points']), 'shape')}, "
        f"{counted(len(frontier['seeds']), 'seed')}; {counted(len(budgets), 'active budget')} of {sizes} parameters, "
        "embeddings included."
    )


def verdict_cell(result: Mapping[str, Any] | None) -> dict[str, str]:
    """The verdict of one curve, task and measure as a short cell, and its sentence."""
    if result is None:
        return {"cell": "–", "words": "not measured"}
    return {"cell": _verdict(result), "words": result["sentence"]}


def verdict_rows(frontier: Frontier) -> list[list[str]]:
    """Each test: curve, task, measure, verdict, slopes, margin, breaks, best number of experts, at edge, seeds."""
    return [
        [
            curve["name"],
            result["task"],
            MEASURES[result["measure"]],
            _verdict(result),
            _slope(result["left"]),
            _slope(result["right"]),
            "–" if result["margin"] is None else f"{result['margin']:.2g}",
            ", ".join(f"{at:g}" for at in sorted(set(result["breaks"]))) or "–",
            _best(result),
            "–" if result["optimum"] is None else f"{result['optimum']['at_edge']:.0%}",
            str(len(result["seeds"])),
        ]
        for curve, result in _results(frontier)
    ]


def effect_rows(frontier: Frontier, effect: str) -> list[list[str]]:
    """Differences of one kind: contrast, task, measure, difference with interval, seeds, verdict."""
    return [
        [
            row["contrast"],
            row["task"],
            MEASURES[row["measure"]],
            _bounded({"mean": row["difference"], **row}),
            str(row["n"]),
            row["verdict"] or row["reason"] or "–",
        ]
        for row in frontier["effects"]
        if row["effect"] == effect
    ]


def audit_rows(frontier: Frontier) -> list[list[str]]:
    """Slopes of the audits' measures: curve, measure, slope with interval, seeds, verdict."""
    labels = audited(frontier)
    return [
        [
            frontier["curves"][row["curve"]]["name"],
            labels.get(row["measure"], row["measure"]),
            _bounded(row),
            str(row["n"]),
            row["verdict"] or row["reason"] or "–",
        ]
        for row in frontier["audit"]
    ]


def audited(frontier: Frontier) -> dict[str, str]:
    """The measures of the shapes' audits → their labels; empty where no shape was audited."""
    labels = {measure.name: measure.label for measure in measures_of(frontier)}
    followed = dict.fromkeys(measure for point in frontier["points"] for measure in point["values"].get("audit", {}))
    return {measure: labels.get(measure, measure) for measure in followed}


def point_rows(frontier: Frontier, task: str) -> list[list[str]]:
    """Each shape: what it is, training loss, then the task's measures with intervals."""
    return [
        [
            point["name"],
            show_count(point["active"]),
            show_count(point["total"]),
            "dense" if point["dense"] else f"{point['sparsity']:.3f}",
            f"{point['tpp']:.3g}",
            str(point["failed"]),
            _bounded(point["values"].get("training", {}).get("loss")),
            *(_bounded(point["values"].get(task, {}).get(measure)) for measure in MEASURES),
        ]
        for point in frontier["points"]
    ]


def _results(frontier: Frontier) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each curve with each of its test results."""
    return [(curve, result) for curve in frontier["curves"] for result in curve["verdicts"]]


def _verdict(result: Mapping[str, Any]) -> str:
    if result["verdict"] is None:
        return "no verdict"
    if result["verdict"] == "monotone":
        return f"monotone: {result['better']} better"
    return str(result["verdict"])


def _best(result: Mapping[str, Any]) -> str:
    best = result["optimum"]
    return "–" if best is None else f"{best['experts']:.3g} [{best['low']:.3g}, {best['high']:.3g}]"


def _slope(slope: Mapping[str, float] | None) -> str:
    return "–" if slope is None else f"{_bounded(slope)}, p {slope['p']:.2g}"


def _bounded(value: Mapping[str, Any] | None) -> str:
    """A mean with its interval, three digits each."""
    if value is None or value["mean"] is None:
        return "–"
    ends = "" if value["low"] is None else f" [{_figure(value['low'])}, {_figure(value['high'])}]"
    return f"{_figure(value['mean'])}{ends}"


def _figure(value: float) -> str:
    """Three digits; a rounding error is 0."""
    return "0" if abs(value) < _ROUNDING else f"{value:.3g}"


def _sizes(numbers: Sequence[int]) -> str:
    return " to ".join(dict.fromkeys(show_count(number) for number in numbers))
