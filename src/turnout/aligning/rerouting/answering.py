"""Answers of the evaluation questions with changed routing: what a method receives and returns, and the loop over all.

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

from turnout.aligning.answers import Answers, Letters, answers_table
from turnout.aligning.config import ReroutingConfig
from turnout.aligning.flops import flops_figures, flops_per_pass, median_prompts
from turnout.aligning.rerouting.steering import BaseForward, Steering
from turnout.listener import Listener
from turnout.models.forward.batches import plan_batches
from turnout.runs import atomic


@dataclass(frozen=True, eq=False)
class Batch:
    """Evaluation questions that the model has answered with its own routing.

    Attributes:
        indices: indices of the questions.
        prompts: token ids of each.
        forward: output of the model with its own routing.
        letters: letters of all evaluation questions.
    """

    indices: Sequence[int]
    prompts: Sequence[Sequence[int]]
    forward: BaseForward
    letters: Letters

    @cached_property
    def question_B(self) -> Tensor:  # noqa: N802  a shape suffix
        """The indices as a tensor."""
        return torch.tensor(self.indices)

    @cached_property
    def base_answers(self) -> Answers:
        """Answers of the base model."""
        return self.letters.answers(self.forward.reading.logits_BU, self.question_B)


@dataclass(frozen=True, eq=False)
class Rerouted:
    """Outcome of rerouting a batch.

    Attributes:
        answers: answers with the changed routing.
        columns: further columns of the answers table, a value a question.
    """

    answers: Answers
    columns: dict[str, list[Any]]


class ReroutingMethod(Protocol):
    """A method that changes the routing of questions."""

    def cost(self, index: int) -> int:
        """Number of tokens, without padding, that one step on this evaluation question runs through the tail."""
        ...

    def reroute(self, batch: Batch) -> Rerouted:
        """Change the routing of each question of `batch` and answer it again; no question affects another."""
        ...

    def flops(self, batch: Batch, table: pl.DataFrame) -> float:
        """Operations of rerouting the one question of `batch`; `table` contains the answers of all."""
        ...


def descent_step(gradient_BF: Tensor, config: ReroutingConfig) -> Tensor:
    """A step [B, F] of gradient descent on each question's own loss; 0 where the gradient is 0."""
    if config.step_kind == "plain":
        return -config.step_size * gradient_BF
    length_B1 = gradient_BF.norm(dim=1, keepdim=True)
    return -config.step_size * (gradient_BF / length_B1).where(length_B1 > 0, 0)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Answers the evaluation questions with a method's routing; use it inside `tail.opened()`."""

    steering: Steering
    letters: Letters
    method: ReroutingMethod
    token_budget: int

    def run(self, path: Path, listener: Listener) -> pa.Table:
        """Answer all questions, one row each; the file `path` stores a JSON line a batch, for a resumed run."""
        questions = self.letters.questions
        rows, done = _stored_rows(path), 0
        for batch in self._batches():
            if not all(i in rows for i in batch):
                new = self.answer(batch)
                _store_rows(path, new)
                rows.update(new)
            done += len(batch)
            listener.progress("answering the evaluation questions", done, len(questions.ids), "questions")
        ordered = [rows[i] for i in range(len(questions.ids))]
        pairs = {i: [tuple(row[side]) for side in ("before", "after")] for i, row in enumerate(ordered)}
        table = answers_table(questions, pairs)
        for name in ordered[0]["columns"]:
            table = table.append_column(name, pa.array([row["columns"][name] for row in ordered]))
        return table

    def answer(self, indices: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Answers before and after rerouting, and the method's columns, of some questions together, by index."""
        batch = self._batch(indices)
        rerouted = self.method.reroute(batch)
        sides = {"before": batch.base_answers, "after": rerouted.answers}
        return {
            i: {
                **{name: [int(of.predicted_B[at]), float(of.logprob_B[at])] for name, of in sides.items()},
                "columns": {name: column[at] for name, column in rerouted.columns.items()},
            }
            for at, i in enumerate(indices)
        }

    def flops(self, table: pl.DataFrame) -> dict[str, Any]:
        """Operations of a question, for align.json: a mean over a few of median length, each alone.

        Those of the base are a forward of the whole model, the head for the letters only; the method's are added to
        them.
        """
        ids = self.letters.questions.ids
        chosen = median_prompts(ids)
        base = flops_per_pass(self.steering.tail, [ids[i] for i in chosen])
        added = sum(self.method.flops(self._batch([i]), table) for i in chosen) / len(chosen)
        return flops_figures(len(chosen), base, base + added)

    def _batch(self, indices: Sequence[int]) -> Batch:
        prompts = [self.letters.questions.ids[i] for i in indices]
        return Batch(indices, prompts, self.steering.run_base(prompts), self.letters)

    def _batches(self) -> list[list[int]]:
        lengths = self.letters.questions.lengths
        return plan_batches([max(own, self.method.cost(i)) for i, own in enumerate(lengths)], self.token_budget)


def _stored_rows(path: Path) -> dict[int, dict[str, Any]]:
    """Rows of the complete lines of `path`; a line that a kill cut short is removed."""
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    if complete != text:
        atomic.write_bytes(path, complete.encode())
    return {int(i): row for line in complete.splitlines() for i, row in json.loads(line).items()}


def _store_rows(path: Path, rows: Mapping[int, dict[str, Any]]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows) + "\n")
    except OSError as error:
        raise atomic.write_error(path, error) from error
