"""Settings of self-consistency voting."""

from typing import Any

from pydantic import Field

from turnout.settings import Settings


class VoteConfig(Settings):
    """How many answers are sampled, how, and of how many problems; the defaults are those of arXiv 2508.18672.

    Raises:
        RecipeError: a value that does not fit.
    """

    samples: int = Field(default=128, ge=1)
    """Sampled answers to each problem; votes are over 1, 2, 4, … of them."""
    temperature: float = Field(default=0.6, gt=0)
    """Temperature of the sampling."""
    problems: int = Field(default=200, ge=1)
    """At most this many problems."""
    max_new_tokens: int = Field(default=256, ge=1, json_schema_extra={"former": "--most-tokens"})
    """Longest answer."""
    batch_size: int = Field(default=256, ge=1)
    """Answers generated at once."""
    subsets: int = Field(default=100, ge=1)
    """Random subsets of the samples over which a vote of fewer is averaged."""
    resamples: int = Field(default=1000, ge=1)
    """Resamples of the problems, for intervals."""
    seed: int = 0
    """Seed of samples, subsets and resamples, and of problems that are drawn."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the votes: 1, 2, 4, … up to the number of samples."""
        return tuple(2**i for i in range(self.samples.bit_length()))

    def describe(self) -> dict[str, Any]:
        """The values as JSON; the key of `max_new_tokens` in a run is `most_tokens`."""
        stored = {"max_new_tokens": "most_tokens"}
        return {stored.get(name, name): value for name, value in super().describe().items()}
