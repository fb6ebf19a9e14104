"""Recipe of a sweep: a training recipe, the values that vary, one budget, and the scoring of the trained models."""

from typing import Any, Self

from pydantic import Field, model_validator

from turnout.settings import Recipe, Section
from turnout.sparsity.analysis.frontier import MARGIN


class Family(Section):
    """Points of the grid: every combination of the listed values. A key that is absent keeps the base's value."""

    hidden_size: tuple[int, ...] = ()
    """H."""
    layers: tuple[int, ...] = ()
    """Decoder layers."""
    experts: tuple[int, ...] = ()
    """E; 1 is the dense model, whose block is as wide as the base's K experts together."""
    top_k: tuple[int, ...] = ()
    """K; combinations with K > E are left out and listed in the result."""
    expert_width: tuple[int, ...] = ()
    """I; if `hidden_size` varies and this is absent, `expert_ratio` times H."""
    expert_ratio: float = Field(default=2.0, gt=0)
    """I over H; 2 in the paper."""
    learning_rate: tuple[float, ...] = ()
    """Peak learning rate."""
    initializer_range: tuple[float, ...] = ()
    """Standard deviation of the initial weights."""


class Budget(Section):
    """Budget of each trial: exactly one of the two."""

    tokens: int | None = Field(default=None, gt=0)
    """Training tokens (iso-token; iso-FLOP where active parameters are equal)."""
    flops: float | None = Field(default=None, gt=0)
    """Training FLOPs, exact products with causal attention; each trial's tokens follow from them."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.tokens is None) == (self.flops is None):
            raise ValueError("give either tokens or flops")
        return self


class Scoring(Section):
    """Exercises and audit that the trained models are scored on."""

    facts: int = Field(default=1000, ge=0)
    """At most this many facts of each facts source."""
    chains: int = Field(default=200, ge=0)
    """Problems of the test split for each number of operations."""
    levels: tuple[int, ...] = ()
    """Further numbers of operations, such as more than training contains."""
    audit: str | None = None
    """Tasks of `turnout.audit` on each MoE: a task's name or file; None: no audit."""


class SweepRecipe(Recipe):
    """A whole sweep."""

    base: dict[str, Any]
    """A training recipe (docs/reference/recipes.md); its tokens and seed are the sweep's."""
    grid: tuple[Family, ...] = Field(min_length=1)
    """Families of shapes."""
    budget: Budget
    """Tokens or FLOPs of each trial."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Each shape is trained with each of them; trials of one seed have the same initial weights and text."""
    ask: Scoring = Scoring()
    """Exercises and audit of the trained models."""
    margin: float = Field(default=MARGIN, gt=0, lt=1)
    """Rise per doubling of the experts, as a share of a curve's range, below which the analysis calls a curve
    monotone. It is in the recipe so that it is fixed before there is a curve."""

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ, got {list(self.seeds)}")
        return self
