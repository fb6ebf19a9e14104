"""Settings of GRPO."""

from typing import Any, Literal

from pydantic import Field

from turnout.settings import Settings

_STORED = {"max_new_tokens": "most_tokens", "test_problems": "asked"}


class GrpoConfig(Settings):
    """Group relative policy optimization (arXiv 2402.03300); defaults as in arXiv 2508.18672 where it states them.

    Raises:
        RecipeError: a value that does not fit.
    """

    generations: int = Field(default=5, ge=2)
    """Sampled answers to each problem, whose rewards are compared with each other."""
    problems_per_step: int = Field(default=16, ge=1)
    """Problems of an optimizer step."""
    steps: int = Field(default=100, ge=1)
    """Optimizer steps."""
    learning_rate: float = Field(default=5e-6, gt=0)
    """Learning rate, constant."""
    kl: float = Field(default=1e-3, ge=0)
    """β, the weight of the divergence from the initial model."""
    clip: float = Field(default=0.2, gt=0)
    """ε of the clipped probability ratio."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature at which the answers are sampled."""
    max_new_tokens: int = Field(default=256, ge=1, json_schema_extra={"former": "--most-tokens"})
    """Longest answer."""
    routers: Literal["trained", "frozen"] = "trained"
    """Whether the routers are trained too."""
    problems: int = Field(default=2000, ge=1)
    """Training problems that are drawn."""
    test_problems: int = Field(default=200, ge=1, json_schema_extra={"former": "--asked"})
    """Test problems that are answered before and after training."""
    save_every: int = Field(default=50, ge=1)
    """Steps between checkpoints."""
    seed: int = 0
    """Seed of everything that is drawn."""

    def describe(self) -> dict[str, Any]:
        """The values as JSON, by their keys in a run: `most_tokens` and `asked` for what is renamed since."""
        return {_STORED.get(name, name): value for name, value in super().describe().items()}
