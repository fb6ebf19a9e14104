"""How many answers are sampled, how, and of how many problems."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from turnout.errors import RecipeError
from turnout.options import given_options


@dataclass(frozen=True, kw_only=True)
class VoteConfig:
    """Self-consistency's settings; the defaults are those of arXiv 2508.18672.

    Raises:
        RecipeError: a value that does not fit.
    """

    samples: int = 128
    """Answers a problem; votes are of 1, 2, 4, … of them."""
    temperature: float = 0.6
    """Of the sampling."""
    problems: int = 200
    """At most so many."""
    most_tokens: int = 256
    """Longest answer."""
    batch_size: int = 256
    """Answers written at once."""
    subsets: int = 100
    """Random subsets of the samples that a vote of fewer is averaged over."""
    resamples: int = 1000
    """Of problems, for intervals."""
    seed: int = 0
    """Of samples, subsets, resamples, and of problems that are drawn."""

    def __post_init__(self) -> None:
        for name in ("samples", "problems", "most_tokens", "batch_size", "subsets", "resamples"):
            if getattr(self, name) < 1:
                raise RecipeError(name, expected="1 or more", received=getattr(self, name))
        if not self.temperature > 0:
            raise RecipeError("temperature", expected="a number above 0", received=self.temperature)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "VoteConfig":
        """The configuration with `options` set, None being a default; RecipeError for one that does not exist."""
        return cls(**given_options(options, cls.__dataclass_fields__, "voting"))

    @property
    def sizes(self) -> tuple[int, ...]:
        """1, 2, 4, … up to the number of samples."""
        return tuple(2**i for i in range(self.samples.bit_length()))

    def describe(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)
