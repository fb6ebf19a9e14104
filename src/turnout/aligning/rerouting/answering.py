"""Answers of the evaluation questions with changed routing.

Shapes: N evaluation questions, B of a batch, F experts of all layers whose routing may change, W choices, U letters.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import pyarrow as pa
import torch
from torch import Tensor

from turnout.aligning import flops
from turnout.aligning.answers import Answers, Letters, answers_table
from turnout.aligning.config import ReroutingConfig
from turnout.aligning.rerouting.steering import Heard, Steering
from turnout.models.forward.batches import plan_batches
from turnout.progress import Progress
from turnout.runs import atomic


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


@dataclass(frozen=True, eq=False)
class Asking:
    """The tested questions, and the method that changes their routing; use it inside `tail.opened()`."""

    steering: Steering
    letters: Letters
    method: Method
    token_budget: int

    def ask(self, path: Path, progress: Progress) -> pa.Table:
        """One row a question. What an earlier process of this run found is in `path`, a JSON line a batch."""
        asked = self.letters.asked
        rows, done = _kept(path), 0
        for batch in self._batches():
            if not all(i in rows for i in batch):
                rows.update(found := self.answer(batch))
                _keep(path, found)
            done += len(batch)
            progress("asking the evaluation questions", done, len(asked.ids), "questions")
        ordered = [rows[i] for i in range(len(asked.ids))]
        pairs = {i: [tuple(row[side]) for side in ("before", "after")] for i, row in enumerate(ordered)}
        table = answers_table(self.letters, pairs)
        for name in ordered[0]["columns"]:
            table = table.append_column(name, pa.array([row["columns"][name] for row in ordered]))
        return table

    def answer(self, questions: Sequence[int]) -> dict[int, dict[str, Any]]:
        """What becomes of some questions together, by number."""
        batch = self._heard(questions)
        rerouted = self.method.reroute(batch)
        sides = {"before": batch.base, "after": rerouted.answers}
        return {
            i: {
                **{name: [int(of.predicted_B[at]), float(of.logprob_B[at])] for name, of in sides.items()},
                "columns": {name: column[at] for name, column in rerouted.columns.items()},
            }
            for at, i in enumerate(questions)
        }

    def flops(self, table: pl.DataFrame) -> dict[str, Any]:
        """Operations of a question: mean of a few of middling length, each asked alone.

        Those of the base are a pass through the whole model, the head for the letters only; those of the method
        come on top of it.
        """
        ids = self.letters.asked.ids
        chosen = flops.middling(ids)
        base = flops.of_passes(self.steering.tail, [ids[i] for i in chosen])
        more = sum(self.method.flops(self._heard([i]), table) for i in chosen) / len(chosen)
        return flops.figures(len(chosen), base, base + more)

    def _heard(self, questions: Sequence[int]) -> Batch:
        prompts = [self.letters.asked.ids[i] for i in questions]
        return Batch(questions, prompts, self.steering.hear(prompts), self.letters)

    def _batches(self) -> list[list[int]]:
        lengths = self.letters.asked.lengths
        return plan_batches([max(own, self.method.cost(i)) for i, own in enumerate(lengths)], self.token_budget)


def _kept(path: Path) -> dict[int, dict[str, Any]]:
    """Rows of the whole lines of `path`; what a kill left of another is cut off."""
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        atomic.write_bytes(path, whole.encode())
    return {int(i): row for line in whole.splitlines() for i, row in json.loads(line).items()}


def _keep(path: Path, found: Mapping[int, dict[str, Any]]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
    except OSError as error:
        raise atomic.write_error(path, error) from error
