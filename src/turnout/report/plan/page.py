"""A plan as one self-contained page, from plan.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.errors import RunError
from turnout.quantities import show_bytes, show_count
from turnout.report.kit.page import assembled
from turnout.report.plan.words import (
    GOALS,
    cost_cells,
    law_cell,
    law_words,
    model_table,
    recommended_name,
    size_cells,
)
from turnout.runs import RunFolder

PLAN_FILE = "plan.json"
SCRIPTS = ("kit/elements.js", "kit/charts.js", "audit/evidence_charts.js", "plan/charts.js", "plan/page.js")
_WEIGHT_BYTES = {"inference": 2, "training": 16}
_COLUMNS = (
    "Configuration",
    "Total",
    "Active",
    "Active, no embeddings",
    "1 − K/E",
    "TPP",
    "Inference FLOPs a token",
    "Inference memory",
    "Training FLOPs",
    "Training memory",
)


def is_plan(run_path: str | Path) -> bool:
    """Whether a run's folder holds a plan."""
    return (Path(run_path) / PLAN_FILE).is_file()


def render_plan(run_path: str | Path) -> str:
    """The page of a finished plan, as HTML.

    Raises:
        RunError: the run is unfinished or damaged, or of another schema.
    """
    folder = RunFolder.read(run_path)
    plan = folder.read_json(PLAN_FILE)
    if plan.get("schema") != 1:
        raise RunError(folder.path, expected="a plan of schema 1", received=plan.get("schema"))
    return assembled("plan/page.html", SCRIPTS, page_data(plan))


def page_data(plan: Mapping[str, Any]) -> dict[str, Any]:
    """All that the page's script draws and says, ready for JSON."""
    found, chosen = plan["configurations"], recommended_name(plan)
    named = chosen or {found[0]["name"]: []}
    return {
        "title": _title(plan),
        "lead": _lead(plan),
        "recommendation": plan["recommendation"],
        "goals": GOALS,
        "points": [_point(one, chosen) for one in found],
        "left_out": [_point(one, chosen) for one in plan["left_out"]],
        "curves": plan["curves"],
        "memory": _memory_line(plan["question"]),
        "tokens": plan["question"]["tokens"],
        "parts": [_parts(one, named[one["name"]]) for one in found if one["name"] in named],
        "columns": [*_COLUMNS, *(law["name"] for law in plan["laws"])],
        "rows": [_row(one) for one in found],
        "model": _model(plan) if plan["kind"] == "model" else None,
        "laws": plan["laws"],
        "conventions": plan["conventions"],
    }


def _title(plan: Mapping[str, Any]) -> str:
    question = plan["question"]
    if plan["kind"] == "model":
        return str(question["of"])
    return f"{show_count(question['active'])} active parameters, {show_count(question['tokens'])} tokens"


def _lead(plan: Mapping[str, Any]) -> str:
    question = plan["question"]
    if plan["kind"] == "model":
        return "The size of one model, counted without its weights, and what follows from it."
    within = f"within {question['tolerance']:.0%} of the budget"
    fitting = f", fitting into {show_bytes(question['memory'])} for {question['use']}" if question["memory"] else ""
    return (
        f"{len(plan['configurations'])} shapes of the architecture of arXiv 2508.18672 have active parameters, "
        f"embeddings included, {within}{fitting}."
    )


def _point(one: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    parameters = one["parameters"]
    return {
        "name": one["name"],
        "top_k": one["top_k"],
        "total": parameters["total"],
        "tpp": one["tpp"],
        "chosen": chosen.get(one["name"], []),
        "words": f"{show_count(parameters['total'])} parameters, {show_count(parameters['active'])} active",
    }


def _memory_line(question: Mapping[str, Any]) -> dict[str, Any] | None:
    """At how many parameters the weights (in training: with gradients and AdamW's state) alone fill the memory."""
    if question.get("memory") is None:
        return None
    at = question["memory"] / _WEIGHT_BYTES[question["use"]]
    return {"total": at, "words": show_bytes(question["memory"])}


def _parts(one: Mapping[str, Any], goals: list[str]) -> dict[str, Any]:
    """Where a configuration's parameters are: embeddings, experts chosen and idle, everything else."""
    parameters = one["parameters"]
    embeddings = parameters["total"] - parameters["total_non_embedding"]
    idle = parameters["total"] - parameters["active"]
    active = parameters["routed"] - idle
    rest = parameters["total"] - embeddings - parameters["routed"]
    shares = {"embeddings": embeddings, "attention and the rest": rest, "chosen experts": active, "idle experts": idle}
    return {
        "name": one["name"],
        "goals": goals,
        "parts": [{"part": part, "count": n, "words": show_count(n)} for part, n in shares.items()],
    }


def _row(one: Mapping[str, Any]) -> dict[str, Any]:
    cells = [one["name"], *size_cells(one), *cost_cells(one)]
    laws = [{"cell": law_cell(found), "words": law_words(found)} for found in one["laws"]]
    return {"cells": cells, "laws": laws}


def _model(plan: Mapping[str, Any]) -> list[list[str]]:
    """One model's figures, a row each, the laws' among them."""
    laws = [[f"{found['law']} loss", law_words(found)] for found in plan["configurations"][0]["laws"]]
    return [*map(list, model_table(plan).rows), *laws]
