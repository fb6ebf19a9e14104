"""Grid of a sweep: the training recipe of each trial, with its parameters, FLOPs and tokens per parameter."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from transformers import PreTrainedTokenizerBase

from turnout.errors import RecipeError
from turnout.models.checkpoint.counting import size_of
from turnout.ops import Parameters, flops, tokens_per_parameter
from turnout.sparsity.sweep.recipe import Family, SweepRecipe
from turnout.training.model import build_config
from turnout.training.recipe import TrainRecipe
from turnout.training.tokens import load_tokenizer


@dataclass(frozen=True)
class Trial:
    """One model to train.

    Attributes:
        name: of its folder: shape, varied values and seed.
        recipe: its training recipe.
        parameters: total and active, with and without embeddings.
        flops: of the whole training, exact products with causal attention.
        tpp: training tokens per total parameter.
    """

    name: str
    recipe: TrainRecipe
    parameters: Parameters
    flops: float
    tpp: float

    @property
    def shape(self) -> str:
        """The name without its seed: trials of one shape are paired by seed with those of another."""
        return self.name.rpartition("-s")[0]


@dataclass(frozen=True)
class Grid:
    """The trials of a sweep, seed by seed and then in the recipe's order.

    Attributes:
        trials: the trials.
        left_out: combinations without a trial, with the reason.
    """

    trials: tuple[Trial, ...]
    left_out: tuple[str, ...]


def build_grid(recipe: SweepRecipe) -> Grid:
    """Build the trial of each legal combination and seed.

    Raises:
        RecipeError: no legal combination, the same trial twice, a budget below one step, or a bad training recipe.
    """
    points, left_out = _points(recipe)
    trials: dict[str, Trial] = {}
    tokenizer: PreTrainedTokenizerBase | None = None
    for seed in recipe.seeds:
        for point in points:
            content = _content(recipe, point, seed)
            tokenizer = tokenizer or load_tokenizer(TrainRecipe.parse(content, "base").data.tokenizer)
            trial = _trial(content, recipe, tokenizer)
            if trial.name in trials:
                raise RecipeError("grid", expected="each trial once", received=f"{trial.name} twice")
            trials[trial.name] = trial
    return Grid(tuple(trials.values()), tuple(left_out))


def _points(recipe: SweepRecipe) -> tuple[list[dict[str, Any]], list[str]]:
    """Model and schedule keys of each legal combination; and the illegal ones."""
    base = recipe.base.get("model")
    if not isinstance(base, dict):
        raise RecipeError("base.model", expected="the architecture that the grid varies", received=base)
    points, left_out = [], []
    for family in recipe.grid:
        for point in _combinations(family):
            model = base | point["model"]
            experts, top_k = model.get("experts"), model.get("top_k")
            if isinstance(experts, int) and isinstance(top_k, int) and 1 < experts < top_k:
                left_out.append(f"experts {experts}, top_k {top_k}: more chosen than there are")
            else:
                points.append(point | {"model": _dense(model) if experts == 1 else model})
    if not points:
        raise RecipeError("grid", expected="a point whose top_k is at most its experts", received=left_out[0])
    return points, left_out


def _combinations(family: Family) -> Iterator[dict[str, Any]]:
    shapes = ("hidden_size", "layers", "experts", "top_k", "expert_width")
    keys = [name for name in (*shapes, "learning_rate", "initializer_range") if getattr(family, name)]
    for values in product(*(getattr(family, name) for name in keys)):
        chosen = dict(zip(keys, values, strict=True))
        model = {name: chosen[name] for name in shapes if name in chosen}
        if "hidden_size" in model and "expert_width" not in model:
            model["expert_width"] = round(family.expert_ratio * model["hidden_size"])
        yield {
            "model": model,
            "learning_rate": chosen.get("learning_rate"),
            "initializer_range": chosen.get("initializer_range"),
        }


def _dense(model: dict[str, Any]) -> dict[str, Any]:
    """One block as wide as the chosen experts together: equal active parameters, except for the router's."""
    top_k = model.get("top_k") or 1
    if "expert_width" not in model:
        expected = "the width of an expert, which the dense model's is a multiple of"
        raise RecipeError("base.model.expert_width", expected=expected, received="none")
    return model | {"top_k": 1, "expert_width": model["expert_width"] * top_k}


def _content(recipe: SweepRecipe, point: dict[str, Any], seed: int) -> dict[str, Any]:
    """The training recipe's mapping; its tokens are those of one step until the shape is counted."""
    model, schedule = dict(point["model"]), dict(recipe.base.get("schedule") or {})
    if point["initializer_range"] is not None:
        model["options"] = (model.get("options") or {}) | {"initializer_range": point["initializer_range"]}
    if point["learning_rate"] is not None:
        schedule["learning_rate"] = point["learning_rate"]
    content = recipe.base | {"model": model, "schedule": schedule, "seed": seed}
    step = TrainRecipe.parse(content | {"schedule": schedule | {"tokens": 2**62}}, "base")
    schedule["tokens"] = step.schedule.batch_size * step.data.sequence_length
    return content


def _trial(content: dict[str, Any], sweep: SweepRecipe, tokenizer: PreTrainedTokenizerBase) -> Trial:
    one_step = TrainRecipe.parse(content, "base")
    assert one_step.model is not None
    config, per_step = build_config(one_step.model, tokenizer), one_step.schedule.tokens
    size = size_of(config, may_be_dense=one_step.model.experts == 1)
    context = one_step.data.sequence_length
    per_token = flops(
        active_products=size.active_products, attention_widths=size.attention_widths, context=context
    ).training
    wanted = sweep.budget.tokens if sweep.budget.flops is None else int(sweep.budget.flops / per_token)
    assert wanted is not None
    tokens = wanted // per_step * per_step
    name = _name(one_step)
    if not tokens:
        expected = f"at least one step of {per_step} tokens for each trial"
        raise RecipeError("budget", expected=expected, received=f"{wanted} tokens for {name}")
    recipe = one_step.model_copy(update={"schedule": one_step.schedule.model_copy(update={"tokens": tokens})})
    tpp = tokens_per_parameter(tokens, size.parameters.total)
    return Trial(name, recipe, size.parameters, per_token * tokens, tpp)


def _name(recipe: TrainRecipe) -> str:
    model = recipe.model
    assert model is not None
    experts = "dense" if model.experts == 1 else f"e{model.experts}-k{model.top_k}"
    parts = [f"d{model.hidden_size}", f"l{model.layers}", experts, f"i{model.expert_width}"]
    parts.append(f"lr{recipe.schedule.learning_rate:g}")
    if "initializer_range" in model.options:
        parts.append(f"init{model.options['initializer_range']:g}")
    return "-".join([*parts, f"s{recipe.seed}"])
