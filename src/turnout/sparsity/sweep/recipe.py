"""What a sweep is made of: a training recipe, the values that vary, and one budget; unknown keys are refused."""

from typing import Any, Self

from pydantic import Field, model_validator

from turnout.sparsity.analysis.frontier import MARGIN
from turnout.training.recipe import Recipe, Section


class Family(Section):
    """Points of the grid: every combination of the listed values; a key that is left out keeps the base's value.

    Args:
        hidden_size: H.
        layers: decoder layers.
        experts: E; 1 is the dense model, whose block is as wide as the base's K experts together.
        top_k: K; combinations with K > E are left out and counted.
        expert_width: I; unless given, `expert_ratio` times H.
        expert_ratio: I over H; the paper has 2.
        learning_rate: the peak.
        initializer_range: standard deviation of the initial weights.
    """

    hidden_size: tuple[int, ...] = ()
    layers: tuple[int, ...] = ()
    experts: tuple[int, ...] = ()
    top_k: tuple[int, ...] = ()
    expert_width: tuple[int, ...] = ()
    expert_ratio: float = Field(default=2.0, gt=0)
    learning_rate: tuple[float, ...] = ()
    initializer_range: tuple[float, ...] = ()


class Budget(Section):
    """What all trials have alike: exactly one of the two.

    Args:
        tokens: training tokens of each (iso-token; iso-FLOP where active parameters are equal).
        flops: training FLOPs of each, exact products with causal attention; each trial's tokens follow.
    """

    tokens: int | None = Field(default=None, gt=0)
    flops: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.tokens is None) == (self.flops is None):
            raise ValueError("give either tokens or flops")
        return self


class Asked(Section):
    """What trained models are asked.

    Args:
        facts: at most so many of each facts source.
        chains: problems of the test split for each number of operations.
        levels: numbers of operations; those that training lacks test for more than was taught.
        audit: what `turnout.audit` asks each model, if anything: a task's name or file.
    """

    facts: int = Field(default=1000, ge=0)
    chains: int = Field(default=200, ge=0)
    levels: tuple[int, ...] = ()
    audit: str | None = None


class SweepRecipe(Recipe):
    """A whole sweep.

    Args:
        base: a training recipe (docs/reference/recipes.md); tokens and seed are the sweep's.
        grid: families of shapes.
        budget: tokens or FLOPs of each trial.
        seeds: each shape is trained once with each of them: paired weights and text.
        ask: what the trained models are asked.
        margin: when the analysis calls a curve monotone: the rise per doubling of the experts, as a share of the
            curve's range, that does not matter. Part of the recipe, so that it is fixed before there is a curve.
    """

    base: dict[str, Any]
    grid: tuple[Family, ...] = Field(min_length=1)
    budget: Budget
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    ask: Asked = Asked()
    margin: float = Field(default=MARGIN, gt=0, lt=1)

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ, got {list(self.seeds)}")
        return self
