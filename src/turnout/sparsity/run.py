"""A plan's work in its run folder: legal configurations and a recommendation for a budget, or the size of one model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from turnout.errors import RecipeError
from turnout.models.checkpoint.size import Size
from turnout.quantities import show_bytes
from turnout.runs import RunFolder
from turnout.sparsity.config import PlanConfig
from turnout.sparsity.costs import CONVENTIONS, configuration, predictions
from turnout.sparsity.laws import LAWS
from turnout.sparsity.recommend import REASONING_TPP, recommend
from turnout.sparsity.result import CONFIGURATIONS, PLAN_FILE, configuration_table
from turnout.sparsity.shapes import legal_sizes, shape_size

SCHEMA = 1
_POINTS_PER_OCTAVE = 4  # of a law's curve, from one number of experts to its double


@dataclass(frozen=True)
class SizedModel:
    """A given model, instead of a budget.

    Attributes:
        size: its counted size.
        tokens: training tokens; None: laws, TPP and training FLOPs are left undefined.
        context: tokens of a sequence.
    """

    size: Size
    tokens: int | None
    context: int

    def describe(self) -> dict[str, Any]:
        """The question as JSON, as a run's inputs.json contains it."""
        parameters = asdict(self.size.parameters)
        return {"of": self.size.name, "tokens": self.tokens, "context": self.context, "parameters": parameters}


def run(question: PlanConfig | SizedModel, folder: RunFolder) -> None:
    """Compute the plan and complete the run in `folder`: plan.json and `tables/configurations.parquet`.

    Raises:
        RecipeError: no legal configuration, or none that fits into the memory.
    """
    content = _of_budget(question) if isinstance(question, PlanConfig) else _of_model(question)
    folder.write_json(PLAN_FILE, content)
    folder.write_table(CONFIGURATIONS, configuration_table(content["configurations"]).to_arrow())
    folder.finish(config=content["question"])


def _of_budget(config: PlanConfig) -> dict[str, Any]:
    sizes = legal_sizes(config)
    legal = [configuration(size, config.tokens, config.context) for size in sizes]
    for one in legal:
        one["fits"] = None if config.memory is None else one["memory"][config.use] <= config.memory
    fitting = [one for one in legal if one["fits"] is not False]
    if not fitting:
        least = min(one["memory"][config.use] for one in legal)
        expected = f"a configuration that fits into {show_bytes(config.memory or 0)} for {config.use}"
        raise RecipeError("memory", expected=expected, received=f"{show_bytes(least)} for the smallest")
    recommendation = recommend(fitting, config)
    chosen = [choice["name"] for choice in recommendation["choices"]]
    ranked = sorted(fitting, key=lambda one: _rank(one, config, chosen))
    return {
        **_shared(config, "budget", ranked),
        "left_out": [one for one in legal if one["fits"] is False],
        "recommendation": recommendation,
        "curves": [_curve(next(size for size in sizes if size.name == chosen[0]), config)],
    }


def _of_model(model: SizedModel) -> dict[str, Any]:
    counted = {**configuration(model.size, model.tokens, model.context), "fits": None}
    return {**_shared(model, "model", [counted]), "left_out": [], "recommendation": None, "curves": []}


def _shared(question: PlanConfig | SizedModel, kind: str, configurations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The keys that both kinds of plan have."""
    return {
        "schema": SCHEMA,
        "kind": kind,
        "question": question.describe(),
        "configurations": list(configurations),
        "laws": [_law(at, configurations) for at in range(len(LAWS))],
        "conventions": CONVENTIONS,
    }


def _law(at: int, configurations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A law's range, the number of configurations that it applies to, and the one of least predicted loss."""
    law = LAWS[at]
    predicted = {one["name"]: one["laws"][at] for one in configurations if one["laws"]}
    losses = {name: law["loss"] for name, law in predicted.items() if law["loss"] is not None}
    best = min(losses, key=lambda name: losses[name]) if len(losses) > 1 else None
    within = sum(law["in_range"] for law in predicted.values())
    described = {"name": law.name, "source": law.source, "fitted_on": law.fitted_on}
    return {**described, "applied": len(losses), "in_range": within, "best": best}


def _rank(one: Mapping[str, Any], config: PlanConfig, chosen: Sequence[str]) -> tuple[float, ...]:
    """Sort key: the chosen ones first; then TPP near 20 and larger K, most parameters, or fewest, by the goal."""
    first = chosen.index(one["name"]) if one["name"] in chosen else len(chosen)
    total = one["parameters"]["total"]
    if config.goal == "reason":
        return (first, round(abs(math.log(one["tpp"] / REASONING_TPP)), 1), -one["top_k"], total)
    return (first, -total if config.goal == "memorize" else total, one["top_k"])


def _curve(size: Size, config: PlanConfig) -> dict[str, Any]:
    """Each law along the number of experts, at the shape of `size`; None where it does not apply."""
    low, high = size.top_k, max(config.grid.experts)
    steps = math.floor(_POINTS_PER_OCTAVE * math.log2(high / low))
    numbers = {round(low * 2 ** (step / _POINTS_PER_OCTAVE)) for step in range(steps + 1)} | {high, size.experts}
    points = []
    for experts in sorted(numbers):
        shape = shape_size(width=size.width, layers=size.layers, experts=experts, top_k=size.top_k, vocab=size.vocab)
        predicted = predictions(shape, config.tokens)
        points.append(
            {
                "experts": experts,
                "total": shape.parameters.total,
                "tpp": config.tokens / shape.parameters.total,
                "losses": {prediction.law: prediction.loss for prediction in predicted},
                "in_range": {prediction.law: prediction.in_range for prediction in predicted},
            }
        )
    return {"name": size.name, "top_k": size.top_k, "points": points}
