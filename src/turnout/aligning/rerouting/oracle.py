"""The oracle, an upper bound that is told the answer; and its control, told a wrong one.

Gradient descent on what is added to the router logits at the last token, on each question's own loss, until the letter
is the one that was asked for. What routing can be made to say, wrong letters included, is no fault of the router: only
what the right letter gains beyond a random wrong one speaks of suboptimal routing.

Shapes: B questions of a batch, N tested questions, F experts of all layers, W choices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from turnout.aligning.answers import Answers, paired_interval
from turnout.aligning.config import ReroutingConfig
from turnout.aligning.flops import count
from turnout.aligning.questions import Asked
from turnout.aligning.rerouting.answering import Batch, Rerouted, descent, letter_losses
from turnout.aligning.rerouting.steering import Held, Steering

STEPS = 50


@dataclass(frozen=True, eq=False)
class Descent:
    """Where a descent towards letters ended; `steps_B` is −1 where the letter was not reached."""

    answers: Answers
    steps_B: Tensor


@dataclass(frozen=True, eq=False)
class Oracle:
    """The method.

    Attributes:
        steering: runs prompts with changed routing.
        asked: the tested questions.
        config: steps.
        seed: of the wrong letters.
    """

    steering: Steering
    asked: Asked
    config: ReroutingConfig
    seed: int

    @property
    def steps(self) -> int:
        """Most steps of a descent."""
        return STEPS if self.config.steps is None else self.config.steps

    def cost(self, question: int) -> int:
        """Tokens of the question itself."""
        return self.asked.lengths[question]

    def reroute(self, batch: Batch) -> Rerouted:
        """Each question towards its answer; and, for the columns that begin with "wrong", towards a wrong letter."""
        right_B = self.asked.answer_S[batch.question_B]
        wrong_B = self.wrong_letters(batch)
        right, wrong = self.descend(batch, right_B), self.descend(batch, wrong_B)
        columns = {
            "steps": right.steps_B.tolist(),
            "wrong_letter": wrong_B.tolist(),
            "wrong_after": wrong.answers.predicted_B.tolist(),
            "wrong_steps": wrong.steps_B.tolist(),
            "logprob_wrong_before": self._logprob(batch, wrong_B).tolist(),
        }
        return Rerouted(right.answers, columns)

    def flops(self, batch: Batch, table: pl.DataFrame) -> float:
        """Operations of a step, of `batch`'s question, times the steps that a question took in the mean; no control."""
        letter_B, held = self.asked.answer_S[batch.question_B], self._held(batch)

        def attempt(gradient: bool) -> None:
            taken = torch.zeros_like(batch.heard.logits_BF, requires_grad=gradient)
            loss, _ = self._try(batch, held, torch.arange(1), taken, letter_B)
            if gradient:
                torch.autograd.grad(loss.sum(), taken)

        steps = table["steps"].replace(-1, self.steps).to_numpy()
        begun = (steps > 0).mean()
        once = count(lambda: self._held(batch)) + count(lambda: attempt(False))  # one more look after the last step
        return float(begun * once + steps.mean() * count(lambda: attempt(True)))

    def descend(self, batch: Batch, letter_B: Tensor) -> Descent:
        """Descend on −log p(letter) until that letter is the greatest, for at most so many steps."""
        predicted_B, logprob_B = batch.base.predicted_B.clone(), batch.base.logprob_B.clone()
        steps_B, added_BF = torch.where(predicted_B == letter_B, 0, -1), torch.zeros_like(batch.heard.logits_BF)
        left = (steps_B < 0).nonzero().flatten()
        if not self.steps or not len(left):
            return Descent(Answers(predicted_B, logprob_B), steps_B)
        held = self._held(batch).of_rows(left)
        for step in range(self.steps + 1):
            taken = added_BF[left].requires_grad_(step < self.steps)
            loss, answers = self._try(batch, held, left, taken, letter_B)
            predicted_B[left], logprob_B[left] = answers.predicted_B, answers.logprob_B
            far = (answers.predicted_B != letter_B[left]).nonzero().flatten()
            steps_B[left[answers.predicted_B == letter_B[left]]] = step
            if step == self.steps or not len(far):
                break
            (gradient,) = torch.autograd.grad(loss[far].sum(), taken)
            if len(far) < len(left):
                left, held = left[far], held.of_rows(far)
            added_BF[left] += descent(gradient[far], self.config)
        return Descent(Answers(predicted_B, logprob_B), steps_B)

    def wrong_letters(self, batch: Batch) -> Tensor:
        """A random wrong choice [B] of each question, not the one that the base model gives if there is another.

        What is drawn depends on the seed and the question alone.
        """
        drawn_N = torch.rand(len(self.asked.ids), generator=torch.Generator().manual_seed(self.seed))
        chosen = []
        for i, base in zip(batch.questions, batch.base.predicted_B.tolist(), strict=True):
            question = self.asked.questions[i]
            wrong = [letter for letter in range(len(question.choices)) if letter != question.answer]
            other = [letter for letter in wrong if letter != base] or wrong
            chosen.append(other[int(drawn_N[i] * len(other))])
        return torch.tensor(chosen)

    def _held(self, batch: Batch) -> Held:
        return self.steering.hold(batch.prompts, batch.heard.entered)

    def _try(self, batch: Batch, held: Held, left: Tensor, added: Tensor, letter_B: Tensor) -> tuple[Tensor, Answers]:
        """Loss of each of the questions that are `left` and held, and their answers."""
        with torch.set_grad_enabled(added.requires_grad):
            reading = self.steering.added(held, added)
            loss = letter_losses(batch.letters, reading.logits_BU, batch.question_B[left], letter_B[left])
        return loss, batch.letters.read(reading.logits_BU.detach(), batch.question_B[left])

    def _logprob(self, batch: Batch, letter_B: Tensor) -> Tensor:
        """What the base model gives the letters."""
        return -letter_losses(batch.letters, batch.heard.reading.logits_BU, batch.question_B, letter_B)


def oracle_figures(table: pl.DataFrame, domains: Sequence[str], seed: int) -> dict[str, Any]:
    """The oracle beside its control, overall and by domain.

    `wrong` holds the figures of the questions that the base model answers wrong and whose wrong letter it does not
    give either: both descents start from a letter that is not theirs. `all` counts every question; there the right
    letter has an advantage of its own, since the base often gives it without a step.

    Args:
        table: one row a question: what the oracle's `answers` holds.
        domains: names, in order.
        seed: of the resamples of questions.
    """
    fair = table.filter((pl.col("before") != pl.col("answer")) & (pl.col("before") != pl.col("wrong_letter")))
    by_domain = {domain: _excess(fair.filter(pl.col("domain") == domain), seed) for domain in domains}
    return {"wrong": {"overall": _excess(fair, seed), "domains": by_domain}, "all": _excess(table, seed)}


def _excess(table: pl.DataFrame, seed: int) -> Mapping[str, Any]:
    """Shares of questions brought to the right letter and to the wrong one, their difference with its 95 % interval."""
    if not len(table):
        return {"questions": 0, **dict.fromkeys(("right", "control", "excess", "interval", "steps", "logprob"))}
    right, control = (table[name].to_numpy() >= 0 for name in ("steps", "wrong_steps"))
    difference = right.astype(int) - control.astype(int)
    return {
        "questions": len(table),
        "right": float(right.mean()),
        "control": float(control.mean()),
        "excess": float(difference.mean()),
        "interval": paired_interval(difference, seed),
        "steps": {"right": _mean_steps(table["steps"]), "control": _mean_steps(table["wrong_steps"])},
        "logprob": {"right": table["logprob_before"].mean(), "control": table["logprob_wrong_before"].mean()},
    }


def _mean_steps(steps: pl.Series) -> float | None:
    """Mean steps of the descents that arrived."""
    mean = steps.filter(steps >= 0).mean()
    return None if mean is None else float(mean)  # type: ignore[arg-type]  # polars: of any dtype
