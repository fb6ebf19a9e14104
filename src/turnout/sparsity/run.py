"""`plan`: a budget and a goal in, legal configurations and a recommendation out; or the size of one model."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from turnout.errors import RecipeError
from turnout.models.checkpoint.size import Size
from turnout.quantities import parse_count, show_bytes
from turnout.runs import RunFolder
from turnout.sparsity.config import PlanConfig
from turnout.sparsity.costs import CONVENTIONS, configuration, predictions
from turnout.sparsity.laws import LAWS
from turnout.sparsity.recommend import REASONING_TPP, recommend
from turnout.sparsity.result import CONFIGURATIONS, PLAN_FILE, Plan
from turnout.sparsity.shapes import known_size, legal_sizes, shape_size

SCHEMA = 1
_OCTAVE = 4  # points of a law's curve from one number of experts to its double
_OF_A_MODEL = ("tokens", "context")
_CONTEXT = PlanConfig.context

Note = Callable[[str], None]


def plan(
    out: str | Path | None = None,
    *,
    of: str | PathLike[str] | None = None,
    note: Note | None = None,
    **options: Any,
) -> Plan:
    """Legal configurations for a budget, with their costs, each law's prediction, and a recommendation.

    Args:
        out: the run's folder; None keeps nothing on disk.
        of: a model instead of a budget: a folder, a config.json, a hub id or a known name (`known_size`).
        note: told where a folder is complete already.
        **options: active and tokens (needed without `of`), goal, memory, use, tolerance, context, width, layers,
            experts, top_k, vocab: see `PlanConfig`. With `of`: tokens, context.

    Raises:
        RecipeError: an option that does not fit, or no legal configuration.
        ModelError: `of` cannot be read.
        RunError: `out` holds something else.
    """
    content = _of_budget(PlanConfig.of(options)) if of is None else _of_model(of, options)
    if out is None:
        return Plan(content)
    with RunFolder.open(out, {"verb": "plan", "question": content["question"]}) as run:
        if run.complete:
            (note or logging.getLogger(__name__).info)(f"{out}: this plan is complete; nothing is computed again")
            return Plan.load(out)
        result = Plan(content)
        run.write_json(PLAN_FILE, content)
        run.write_table(CONFIGURATIONS, result.frame().to_arrow())
        run.finish(config=content["question"])
    return Plan.load(out)


def _of_budget(config: PlanConfig) -> dict[str, Any]:
    sizes = legal_sizes(config)
    every = [configuration(size, config.tokens, config.context) for size in sizes]
    for one in every:
        one["fits"] = None if config.memory is None else one["memory"][config.use] <= config.memory
    found = [one for one in every if one["fits"] is not False]
    if not found:
        least = min(one["memory"][config.use] for one in every)
        expected = f"a configuration that fits into {show_bytes(config.memory or 0)} for {config.use}"
        raise RecipeError("memory", expected=expected, received=f"{show_bytes(least)} for the smallest")
    recommendation = recommend(found, config)
    chosen = [choice["name"] for choice in recommendation["choices"]]
    ranked = sorted(found, key=lambda one: _rank(one, config, chosen))
    return {
        **_common("budget", config.describe(), ranked),
        "left_out": [one for one in every if one["fits"] is False],
        "recommendation": recommendation,
        "curves": [_curve(next(size for size in sizes if size.name == chosen[0]), config)],
    }


def _of_model(source: str | PathLike[str], options: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    for name in sorted(given.keys() - set(_OF_A_MODEL)):
        raise RecipeError(name, expected="tokens or context beside a model", received="an option of a budget")
    tokens = parse_count("tokens", given["tokens"]) if "tokens" in given else None
    context = parse_count("context", given.get("context", _CONTEXT))
    size = known_size(source)
    asked = {"of": size.name, "tokens": tokens, "context": context, "parameters": asdict(size.parameters)}
    found = [{**configuration(size, tokens, context), "fits": None}]
    return {**_common("model", asked, found), "left_out": [], "recommendation": None, "curves": []}


def _common(kind: str, question: dict[str, Any], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": kind,
        "question": question,
        "configurations": list(found),
        "laws": [_law(at, found) for at in range(len(LAWS))],
        "conventions": CONVENTIONS,
    }


def _law(at: int, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A law's range, how many configurations it applies to, and which of them it finds best."""
    law = LAWS[at]
    losses = {one["name"]: one["laws"][at]["loss"] for one in found if one["laws"]}
    known = {name: loss for name, loss in losses.items() if loss is not None}
    best = min(known, key=lambda name: known[name]) if len(known) > 1 else None
    within = sum(one["laws"][at]["in_range"] for one in found if one["laws"])
    described = {"name": law.name, "source": law.source, "fitted_on": law.fitted_on}
    return {**described, "applied": len(known), "in_range": within, "best": best}


def _rank(one: Mapping[str, Any], config: PlanConfig, chosen: Sequence[str]) -> tuple[float, ...]:
    """Chosen ones first; then as the goal prefers: TPP near 20 and larger K, most parameters, or simply by size."""
    first = chosen.index(one["name"]) if one["name"] in chosen else len(chosen)
    total = one["parameters"]["total"]
    if config.goal == "reason":
        return (first, round(abs(math.log(one["tpp"] / REASONING_TPP)), 1), -one["top_k"], total)
    return (first, -total if config.goal == "memorise" else total, one["top_k"])


def _curve(size: Size, config: PlanConfig) -> dict[str, Any]:
    """Each law along the number of experts, at the shape of `size`; None where it does not apply."""
    low, high = size.top_k, max(config.grid.experts)
    steps = math.floor(_OCTAVE * math.log2(high / low))
    numbers = sorted({round(low * 2 ** (step / _OCTAVE)) for step in range(steps + 1)} | {high, size.experts})
    points = []
    for experts in numbers:
        there = shape_size(width=size.width, layers=size.layers, experts=experts, top_k=size.top_k, vocab=size.vocab)
        said = predictions(there, config.tokens)
        points.append(
            {
                "experts": experts,
                "total": there.parameters.total,
                "tpp": config.tokens / there.parameters.total,
                "losses": {found.law: found.loss for found in said},
                "in_range": {found.law: found.in_range for found in said},
            }
        )
    return {"name": size.name, "top_k": size.top_k, "points": points}
