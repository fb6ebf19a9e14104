"""What a rerouting method is given and what it returns.

Shapes: B questions of a batch, F experts of all layers whose routing may change, W choices, U letters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import polars as pl
import torch
from torch import Tensor

from turnout.aligning.answering import Answers, Letters
from turnout.aligning.config import ReroutingConfig
from turnout.aligning.rerouting.steering import Heard


@dataclass(frozen=True, eq=False)
class Batch:
    """Tested questions that the model has answered by its own routing.

    Attributes:
        questions: their numbers.
        prompts: their token ids.
        heard: what the model said.
        letters: of the tested questions.
    """

    questions: Sequence[int]
    prompts: Sequence[Sequence[int]]
    heard: Heard
    letters: Letters

    @cached_property
    def question_B(self) -> Tensor:  # noqa: N802  a shape suffix
        """The numbers as a tensor."""
        return torch.tensor(self.questions)

    @cached_property
    def base(self) -> Answers:
        """The base model's answers."""
        return self.letters.read(self.heard.reading.logits_BU, self.question_B)


@dataclass(frozen=True, eq=False)
class Rerouted:
    """What became of a batch.

    Attributes:
        answers: of the changed routing.
        columns: what else a method says, a value a question, by name.
    """

    answers: Answers
    columns: dict[str, list[Any]]


class Method(Protocol):
    """A way to change routing."""

    def cost(self, question: int) -> int:
        """Tokens that one step on this tested question runs through the tail, padding left out."""
        ...

    def reroute(self, batch: Batch) -> Rerouted:
        """Change the routing of each question of `batch` and answer it again; no question sees another."""
        ...

    def flops(self, batch: Batch, table: pl.DataFrame) -> float:
        """Operations of changing the routing of `batch`'s one question; `table` holds what became of all."""
        ...


def letter_losses(letters: Letters, logits_BU: Tensor, question_B: Tensor, letter_B: Tensor) -> Tensor:
    """Cross-entropy [B] of the letters `letter_B` (choices), on the CPU; differentiable."""
    logprob_BW = letters.logprobs(logits_BU, question_B).cpu()
    return -logprob_BW.gather(1, letter_B.unsqueeze(1)).squeeze(1)


def descent(gradient_BF: Tensor, config: ReroutingConfig) -> Tensor:
    """A step [B, F] of gradient descent on each question's own loss; 0 where there is no gradient."""
    if config.step_kind == "plain":
        return -config.step_size * gradient_BF
    length_B1 = gradient_BF.norm(dim=1, keepdim=True)
    return -config.step_size * (gradient_BF / length_B1).where(length_B1 > 0, 0)
