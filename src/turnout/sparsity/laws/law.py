"""What a scaling law is asked, and what it answers: a loss with everything that speaks against it, or why it has none.

Nothing is printed: a warning is data, and stands beside its number wherever that goes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from turnout.ops import Parameters
from turnout.quantities import show_count


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a law may look at."""

    tokens: int
    width: int
    experts: int
    top_k: int
    expert_width: int
    parameters: Parameters

    @property
    def expansion(self) -> float:
        """E/K: parameters of all routed experts over those of the chosen ones."""
        return self.experts / self.top_k

    @property
    def sparsity(self) -> float:
        """1 − K/E."""
        return 1 - self.top_k / self.experts

    @property
    def training_flops(self) -> float:
        """6·N·D, N active with embeddings: the laws' own measure of compute."""
        return 6.0 * self.parameters.active * self.tokens


@dataclass(frozen=True)
class Prediction:
    """A law's answer.

    Attributes:
        law: its name.
        loss: nats a token of the law's own text and tokenizer; None where the law does not apply.
        warnings: what lies outside the range that it was fitted on.
        reason: why it does not apply; None where it does.
    """

    law: str
    loss: float | None
    warnings: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def in_range(self) -> bool:
        """Whether the law was fitted on models like this one."""
        return self.loss is not None and not self.warnings


@dataclass(frozen=True)
class Law:
    """A published law.

    Attributes:
        name: short.
        source: authors and paper.
        fitted_on: its range of validity, in words.
        predict: Scale → Prediction.
    """

    name: str
    source: str
    fitted_on: str
    predict: Callable[[Scale], Prediction]


def outside(what: str, value: float, low: float, high: float) -> tuple[str, ...]:
    """A warning where `value` lies outside low…high, which are rounded as the paper rounds; else nothing."""
    if low <= value <= high:
        return ()
    span = f"on {show_count(low)} to {show_count(high)}" if low else f"up to {show_count(high)}"
    return (f"{show_count(value)} {what}: fitted {span}",)
