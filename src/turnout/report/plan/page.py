"""The page of a plan, from plan.json."""

from collections.abc import Mapping
from typing import Any

from turnout.quantities import show_bytes, show_count
from turnout.report.kit.page import assemble_page, read_content
from turnout.report.plan.words import (
    GOALS,
    Configuration,
    Plan,
    cost_cells,
    law_cell,
    law_words,
    model_table,
    recommended_name,
    size_cells,
)
from turnout.runs import RunFolder

SCRIPTS = ("plan/charts.js", "plan/page.js")
_WEIGHT_BYTES = {"inference": 2, "training": 16}
_COLUMNS = (
    "Configuration",
    "Total",
    "Active",
    "Active, no embeddings",
    "1 − K/E",
    "TPP",
    "Inference FLOPs per token",
    "Inference memory",
    "Training FLOPs",
    "Training memory",
)


def render_plan(folder: RunFolder) -> str:
    """The page of a finished plan as HTML.

    Raises:
        RunError: the run is damaged or of another schema.
    """
    return assemble_page("plan/page.html", SCRIPTS, page_data(read_content(folder, "plan.json", "a plan")))


def page_data(plan: Plan) -> dict[str, Any]:
    """Words, tables and figures for the page's scripts, ready for JSON."""
    configurations, recommended = plan["configurations"], recommended_name(plan)
    shown = recommended or {configurations[0]["name"]: []}
    return {
        "title": _title(plan),
        "lead": _lead(plan),
        "recommendation": plan["recommendation"],
        "goals": GOALS,
        "points": [_point(one, recommended) for one in configurations],
        "left_out": [_point(one, recommended) for one in plan["left_out"]],
        "curves": plan["curves"],
        "memory": _memory_line(plan["question"]),
        "tokens": plan["question"]["tokens"],
        "parts": [_parts(one, shown[one["name"]]) for one in configurations if one["name"] in shown],
        "columns": [*_COLUMNS, *(law["name"] for law in plan["laws"])],
        "rows": [_row(one) for one in configurations],
        "model": _model(plan) if plan["kind"] == "model" else None,
        "laws": plan["laws"],
        "conventions": plan["conventions"],
    }


def _title(plan: Plan) -> str:
    question = plan["question"]
    if plan["kind"] == "model":
        return str(question["of"])
    return f"{show_count(question['active'])} active parameters, {show_count(question['tokens'])} tokens"


def _lead(plan: Plan) -> str:
    question = plan["question"]
    if plan["kind"] == "model":
        return "Size and costs of one model, computed from its configuration without its weights."
    fitting = f", and fit into {show_bytes(question['memory'])} for {question['use']}" if question["memory"] else ""
    return (
        f"{len(plan['configurations'])} shapes of the architecture of arXiv 2508.18672 have active parameters "
        f"(embeddings included) within {question['tolerance']:.0%} of the budget{fitting}."
    )


def _point(one: Configuration, recommended: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as a mark of the figure of shapes."""
    parameters = one["parameters"]
    return {
        "name": one["name"],
        "top_k": one["top_k"],
        "total": parameters["total"],
        "tpp": one["tpp"],
        "chosen": recommended.get(one["name"], []),
        "words": f"{show_count(parameters['total'])} parameters, {show_count(parameters['active'])} active",
    }


def _memory_line(question: Mapping[str, Any]) -> dict[str, Any] | None:
    """The number of parameters at which the weights alone (in training with gradients and AdamW) fill the memory."""
    if question.get("memory") is None:
        return None
    return {"total": question["memory"] / _WEIGHT_BYTES[question["use"]], "words": show_bytes(question["memory"])}


def _parts(one: Configuration, goals: list[str]) -> dict[str, Any]:
    """A configuration's parameters by part: embeddings, chosen and idle experts, everything else."""
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


def _row(one: Configuration) -> dict[str, Any]:
    cells = [one["name"], *size_cells(one), *cost_cells(one)]
    laws = [{"cell": law_cell(prediction), "words": law_words(prediction)} for prediction in one["laws"]]
    return {"cells": cells, "laws": laws}


def _model(plan: Plan) -> list[list[str]]:
    """One model's figures, a row each, with the losses by law last."""
    laws = [[f"{prediction['law']} loss", law_words(prediction)] for prediction in plan["configurations"][0]["laws"]]
    return [*map(list, model_table(plan).rows), *laws]
