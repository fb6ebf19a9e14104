"""GRPO's settings."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from turnout.errors import RecipeError
from turnout.options import given_options


@dataclass(frozen=True, kw_only=True)
class GrpoConfig:
    """Group relative policy optimisation (arXiv 2402.03300), with the settings of arXiv 2508.18672 where it gives them.

    Raises:
        RecipeError: a value that does not fit.
    """

    generations: int = 5
    """Answers to each problem, which are compared with each other."""
    problems_per_step: int = 16
    """Problems of an optimiser step."""
    steps: int = 100
    """Optimiser steps."""
    learning_rate: float = 5e-6
    """Constant."""
    kl: float = 1e-3
    """β, the weight of the divergence from the model as it was."""
    clip: float = 0.2
    """ε of the clipped ratio."""
    temperature: float = 1.0
    """Of the answers that are rewarded."""
    most_tokens: int = 256
    """Longest answer."""
    routers: Literal["trained", "frozen"] = "trained"
    """Whether routers learn too."""
    problems: int = 2000
    """Training problems that are drawn."""
    asked: int = 200
    """Test problems that are asked before and after."""
    save_every: int = 50
    """Steps between checkpoints."""
    seed: int = 0
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        counts = ("problems_per_step", "steps", "most_tokens", "problems", "asked", "save_every")
        for name, least in (*dict.fromkeys(counts, 1).items(), ("generations", 2)):
            if getattr(self, name) < least:
                raise RecipeError(name, expected=f"{least} or more", received=getattr(self, name))
        for name in ("learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise RecipeError(name, expected="a number above 0", received=getattr(self, name))
        if self.kl < 0 or not self.clip > 0:
            raise RecipeError(
                "kl, clip", expected="0 or more, and a number above 0", received=f"{self.kl}, {self.clip}"
            )
        if self.routers not in ("trained", "frozen"):
            raise RecipeError("routers", expected="trained or frozen", received=self.routers)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "GrpoConfig":
        """The configuration with `options` set, None being a default; RecipeError for one that does not exist."""
        return cls(**given_options(options, cls.__dataclass_fields__, "grpo"))

    def describe(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)
