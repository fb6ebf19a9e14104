"""Frontier of a sweep: the analysis of all its stored trials, without a model."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from turnout.errors import RecipeError
from turnout.sparsity.analysis.effects import audit_slopes, effects
from turnout.sparsity.analysis.shapes import Shape, active_without_router, curve_names, curves_of, read_shapes, tasks_of
from turnout.sparsity.analysis.statistics import FEWEST, interval
from turnout.sparsity.analysis.verdicts import SIGNS, verdict

SCHEMA, FRONTIER_FILE = 1, "frontier.json"
MARGIN = 0.01
"""Rise per doubling of the experts, as a share of a curve's range, below which it does not matter."""
_Schema = dict[str, pl.DataType | type[pl.DataType]]
_NAMED = {"task": pl.String, "measure": pl.String}
_POINTS: _Schema = {"shape": pl.String, "budget": pl.Int64, "experts": pl.Int64, **_NAMED, "n": pl.Int64}
_POINTS |= dict.fromkeys(("mean", "low", "high"), pl.Float64)
_VERDICTS: _Schema = {"curve": pl.String, **_NAMED, "verdict": pl.String, "better": pl.String}
_VERDICTS |= {"margin": pl.Float64, "reason": pl.String}
_EFFECTS: _Schema = {"effect": pl.String, "contrast": pl.String, **_NAMED, "n": pl.Int64}
_EFFECTS |= dict.fromkeys(("difference", "low", "high"), pl.Float64)
_EFFECTS |= dict.fromkeys(("verdict", "reason"), pl.String)


def frontier(sweep: Mapping[str, Any], margin: float = MARGIN) -> dict[str, Any]:
    """Analyze a sweep's trials along sparsity; frontier.json's content.

    Args:
        sweep: sweep.json's content (`SweepResult.to_dict()`).
        margin: the share that `MARGIN` describes; fix it beforehand.

    Returns:
        `points` (one a shape, with every measure's mean and its 95 % t interval over seeds), `budgets`,
        `curves` (each a list of points that differ in experts alone, with its `verdicts`), `effects` (paired
        differences), `audit` (slopes along log2 of the experts), `failed` and `notes`.

    Raises:
        RecipeError: a margin that is not above 0.
    """
    if not margin > 0:
        raise RecipeError("margin", expected="a share above 0", received=margin)
    shapes = read_shapes(sweep["trials"])
    tasks, curves = tasks_of(shapes), curves_of(shapes)
    names = curve_names(curves)
    return {
        "schema": SCHEMA,
        "margin": margin,
        "trials": len(sweep["trials"]),
        "seeds": sorted({trial["seed"] for trial in sweep["trials"]}),
        "tasks": tasks,
        "budgets": _budgets(shapes),
        "points": [_point(shape) for shape in shapes],
        "curves": [_curve(*named, tasks, margin) for named in zip(curves, names, strict=True)],
        "effects": effects(shapes, curves, tasks),
        "audit": audit_slopes(curves),
        "failed": [_failed(trial) for trial in sweep["trials"] if trial["error"] is not None],
        "left_out": list(sweep["left_out"]),
        "notes": _notes(shapes, tasks),
    }


def frontier_tables(analysis: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Tidy tables of `frontier`'s content: `frontier` (a shape, task and measure a row), `verdicts` and `effects`."""
    points = [
        (point["name"], point["budget"], point["experts"], task, measure, *value.values())
        for point in analysis["points"]
        for task, measures in point["values"].items()
        for measure, value in measures.items()
    ]
    verdicts = [
        (curve["name"], *(one[key] for key in ("task", "measure", "verdict", "better", "margin", "reason")))
        for curve in analysis["curves"]
        for one in curve["verdicts"]
    ]
    changes = [tuple(one[key] for key in _EFFECTS) for one in analysis["effects"]]
    tables = {"frontier": (points, _POINTS), "verdicts": (verdicts, _VERDICTS), "effects": (changes, _EFFECTS)}
    return {name: pl.DataFrame(rows, schema, orient="row").to_arrow() for name, (rows, schema) in tables.items()}


def _point(shape: Shape) -> dict[str, Any]:
    trial = shape.trial
    keys = ("hidden_size", "layers", "experts", "top_k", "expert_width", "dense", "sparsity", "learning_rate")
    values: dict[str, dict[str, Any]] = {}
    for (task, measure), by_seed in shape.values.items():
        values.setdefault(task, {})[measure] = interval(by_seed.values())
    counted = {"tokens": trial["tokens"], "tpp": trial["tpp"], "flops": trial["flops"], "failed": shape.failed}
    parameters = {key: trial["parameters"][key] for key in ("total", "active", "active_non_embedding")}
    named = {"name": shape.name, "budget": shape.budget, **{key: trial[key] for key in keys}}
    return named | {"initializer_range": trial["initializer_range"], **parameters, **counted, "values": values}


def _curve(curve: Sequence[Shape], name: str, tasks: Sequence[str], margin: float) -> dict[str, Any]:
    scored = [task for task in tasks if any(shape.of(task, "loss") for shape in curve)]
    return {
        "name": name,
        "budget": curve[0].budget,
        "points": [shape.name for shape in curve],
        "verdicts": [verdict(curve, task, measure, margin) for task in scored for measure in SIGNS],
    }


def _budgets(shapes: Sequence[Shape]) -> list[dict[str, Any]]:
    budgets = []
    for budget in sorted({shape.budget for shape in shapes}):
        sizes = [shape.trial["parameters"]["active"] for shape in shapes if shape.budget == budget]
        without = [active_without_router(shape.trial) for shape in shapes if shape.budget == budget]
        budgets.append({"active": [min(sizes), max(sizes)], "without_router": [min(without), max(without)]})
    return budgets


def _failed(trial: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": trial["name"], "error": trial["error"]}


def _notes(shapes: Sequence[Shape], tasks: Sequence[str]) -> list[str]:
    """Limits of all figures."""
    seeds = max((len(values) for shape in shapes for values in shape.values.values()), default=0)
    few = f"Figures without verdicts: {seeds} seeds, and three at least are needed to tell a difference from chance."
    many = "Each interval and each test is at 5 % by itself; over many tasks and measures some will pass by chance."
    fewer = f"{seeds} seeds: at a difference of two standard deviations three find a U in 30 % of cases, five in 72 %."
    notes = [few] if seeds < FEWEST else [many, *([fewer] if seeds < 5 else [])]
    if "chains" in tasks and sum(task.startswith("chains") for task in tasks) > 1:
        notes.append("“chains” is the mean over all numbers of operations.")
    return notes
