"""How coupling is measured."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from turnout.errors import RecipeError
from turnout.options import given_options

Scope = Literal["last", "all"]


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """How coupling is measured.

    Raises:
        RecipeError: a value that does not fit.
    """

    alphas: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)
    """The α at which the ERC loss is taken."""
    permutations: int = 9999
    """Random pairings of routers with experts that the null is made of."""
    resamples: int = 2000
    """Bootstrap draws behind each interval."""
    scope: Scope = "all"
    """Which tokens of a question are looked at: all, or its last, which in most prompts is the same token each time."""
    token_budget: int = 1024
    """Most tokens of a batch, padding included; a longer prompt is a batch alone."""
    seed: int = 0
    """Of pairings and resamples."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "MeasureConfig":
        """The configuration with `options` set, None being a default; RecipeError for one that does not exist."""
        given = given_options(options, cls.__dataclass_fields__, "measuring coupling")
        if "alphas" in given:
            given["alphas"] = tuple(float(alpha) for alpha in given["alphas"])
        return cls(**given)

    def __post_init__(self) -> None:
        if not self.alphas or not all(math.isfinite(alpha) and alpha >= 0 for alpha in self.alphas):
            raise RecipeError("alphas", expected="finite numbers of at least 0", received=list(self.alphas))
        if len(set(self.alphas)) != len(self.alphas):
            raise RecipeError("alphas", expected="each number once", received=list(self.alphas))
        if self.scope not in ("last", "all"):
            raise RecipeError("scope", expected="last or all", received=self.scope)
        for name, least in (("permutations", 199), ("resamples", 200), ("token_budget", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise RecipeError(name, expected=f"{least} or more", received=getattr(self, name))

    def describe(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**asdict(self), "alphas": list(self.alphas)}
