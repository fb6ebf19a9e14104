"""The page of a sweep, from frontier.json."""

from collections.abc import Mapping
from typing import Any

from turnout.quantities import show_count
from turnout.report.kit.page import assemble_page, read_content
from turnout.report.sweep.words import (
    EFFECTS,
    EFFECTS_EMPTY,
    MEASURES,
    UNITS,
    Frontier,
    audit_rows,
    audited,
    effect_rows,
    lead,
    point_rows,
    verdict_cell,
    verdict_rows,
)
from turnout.runs import RunFolder

SCRIPTS = ("sweep/charts.js", "sweep/page.js")


def render_sweep(folder: RunFolder) -> str:
    """The page of a finished sweep as HTML.

    Raises:
        RunError: the run is damaged or of another schema.
    """
    frontier = read_content(folder, "frontier.json", "a sweep's frontier")
    return assemble_page("sweep/page.html", SCRIPTS, page_data(frontier, folder.path.resolve().name))


def page_data(frontier: Frontier, title: str) -> dict[str, Any]:
    """Words, tables and figures for the page's scripts, ready for JSON."""
    return {
        "title": title,
        "lead": lead(frontier),
        "notes": frontier["notes"],
        "margin": frontier["margin"],
        "tasks": frontier["tasks"],
        "measures": MEASURES,
        "units": UNITS,
        "curves": [_curve(curve) for curve in frontier["curves"]],
        "points": [_point(point) for point in frontier["points"]],
        "dense": [point["name"] for point in frontier["points"] if point["dense"]],
        "summary": _summary(frontier),
        "verdicts": verdict_rows(frontier),
        "effects": [
            {"name": name, "empty": EFFECTS_EMPTY[effect], "rows": effect_rows(frontier, effect)}
            for effect, name in EFFECTS.items()
        ],
        "audit": audit_rows(frontier),
        "audited": audited(frontier),
        "table": {task: point_rows(frontier, task) for task in frontier["tasks"]},
        "failed": [[trial["name"], trial["error"]] for trial in frontier["failed"]],
        "left_out": frontier["left_out"],
    }


def _curve(curve: Mapping[str, Any]) -> dict[str, Any]:
    sentences: dict[str, list[str]] = {}
    for result in curve["verdicts"]:
        sentences.setdefault(result["task"], []).append(result["sentence"])
    return {"name": curve["name"], "budget": curve["budget"], "points": curve["points"], "sentences": sentences}


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    """A shape as a mark of the figures, with the words of its hover label."""
    keys = ("name", "budget", "experts", "dense", "total", "tpp", "sparsity", "values")
    shape = "dense" if point["dense"] else f"{point['experts']} experts, K {point['top_k']}"
    sizes = f"{show_count(point['total'])} parameters, {show_count(point['active'])} active, TPP {point['tpp']:.3g}"
    return {key: point[key] for key in keys} | {
        "words": f"{shape}<br>{sizes}",
        "chosen": None if point["dense"] else point["top_k"] / point["experts"],
    }


def _summary(frontier: Frontier) -> dict[str, Any]:
    """One row for each task, one cell for each curve and measure."""
    columns = [(curve, measure) for curve in frontier["curves"] for measure in ("loss", "accuracy")]
    rows = []
    for task in frontier["tasks"]:
        results = [
            next((one for one in curve["verdicts"] if (one["task"], one["measure"]) == (task, measure)), None)
            for curve, measure in columns
        ]
        rows.append({"task": task, "cells": [verdict_cell(result) for result in results]})
    return {"columns": [[curve["name"], MEASURES[measure]] for curve, measure in columns], "rows": rows}
