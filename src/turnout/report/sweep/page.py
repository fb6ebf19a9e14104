"""A sweep as one self-contained page, from frontier.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.errors import RunError
from turnout.quantities import show_count
from turnout.report.kit.page import assembled
from turnout.report.sweep.words import (
    EFFECTS,
    EFFECTS_EMPTY,
    MEASURES,
    UNITS,
    audit_rows,
    effect_rows,
    lead,
    point_rows,
    verdict_cell,
    verdict_rows,
)
from turnout.runs import RunFolder

FRONTIER_FILE, SWEEP_FILE = "frontier.json", "sweep.json"
SCRIPTS = ("kit/elements.js", "kit/charts.js", "audit/evidence_charts.js", "sweep/charts.js", "sweep/page.js")


def is_sweep(run_path: str | Path) -> bool:
    """Whether a run's folder holds a sweep."""
    return (Path(run_path) / SWEEP_FILE).is_file()


def render_frontier(run_path: str | Path) -> str:
    """The page of a finished sweep, as HTML.

    Raises:
        RunError: the run is unfinished or damaged, or of another schema.
    """
    folder = RunFolder.read(run_path)
    found = folder.read_json(FRONTIER_FILE)
    if found.get("schema") != 1:
        raise RunError(folder.path, expected="a frontier of schema 1", received=found.get("schema"))
    return assembled("sweep/page.html", SCRIPTS, page_data(found, folder.path.resolve().name))


def page_data(found: Mapping[str, Any], title: str) -> dict[str, Any]:
    """All that the page's script draws and says, ready for JSON."""
    return {
        "title": title,
        "lead": lead(found),
        "notes": found["notes"],
        "margin": found["margin"],
        "tasks": found["tasks"],
        "measures": MEASURES,
        "units": UNITS,
        "curves": [_curve(curve) for curve in found["curves"]],
        "points": [_point(point) for point in found["points"]],
        "dense": [point["name"] for point in found["points"] if point["dense"]],
        "summary": _summary(found),
        "verdicts": verdict_rows(found),
        "effects": [
            {"name": name, "empty": EFFECTS_EMPTY[effect], "rows": effect_rows(found, effect)}
            for effect, name in EFFECTS.items()
        ],
        "audit": audit_rows(found),
        "audited": any("audit" in point["values"] for point in found["points"]),
        "table": {task: point_rows(found, task) for task in found["tasks"]},
        "failed": [[one["name"], one["error"]] for one in found["failed"]],
        "left_out": found["left_out"],
    }


def _curve(curve: Mapping[str, Any]) -> dict[str, Any]:
    sentences: dict[str, list[str]] = {}
    for one in curve["verdicts"]:
        sentences.setdefault(one["task"], []).append(one["sentence"])
    return {"name": curve["name"], "budget": curve["budget"], "points": curve["points"], "sentences": sentences}


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    """What figures draw, with words for who points at it."""
    keys = ("name", "budget", "experts", "dense", "total", "tpp", "sparsity", "values")
    what = "dense" if point["dense"] else f"{point['experts']} experts, K {point['top_k']}"
    words = f"{what}<br>{show_count(point['total'])} parameters, {show_count(point['active'])} active"
    return {key: point[key] for key in keys} | {
        "words": f"{words}, TPP {point['tpp']:.3g}",
        "chosen": None if point["dense"] else point["top_k"] / point["experts"],
    }


def _summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """A row a task, a cell a (curve, measure)."""
    columns = [(curve, measure) for curve in found["curves"] for measure in ("loss", "accuracy")]
    rows = []
    for task in found["tasks"]:
        cells = [
            next((v for v in curve["verdicts"] if (v["task"], v["measure"]) == (task, measure)), None)
            for curve, measure in columns
        ]
        rows.append({"task": task, "cells": [verdict_cell(cell) for cell in cells]})
    return {"columns": [[curve["name"], MEASURES[measure]] for curve, measure in columns], "rows": rows}
