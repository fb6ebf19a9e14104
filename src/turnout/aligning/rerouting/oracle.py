"""The oracle, an upper bound that uses the right answer; and its control, which uses a random wrong one.

Gradient descent on what is added to the router logits at the last token, on the cross-entropy of a letter, until the
model predicts that letter. Routing that can be changed to give any letter, wrong ones included, is no fault of the
router: only what the right letter gains beyond a wrong one is evidence of suboptimal routing.

Shapes: B questions of a batch, N evaluation questions, F experts of all layers, W choices, R questions of a batch whose
descent continues.
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
from turnout.aligning.questions import QuestionSet
from turnout.aligning.rerouting.answering import Batch, Rerouted, descent_step
from turnout.aligning.rerouting.steering import Steering, TailPrompts

STEPS = 50


@dataclass(frozen=True, eq=False)
class Descent:
    """Outcome of a descent towards letters; `steps_B` is −1 where the letter was not reached."""

    answers: Answers
    steps_B: Tensor


@dataclass(frozen=True, eq=False)
class Oracle:
    """The oracle as a `ReroutingMethod`.

    Attributes:
        steering: runs prompts with changed routing.
        questions: the evaluation questions.
        config: number, length and kind of the steps.
        seed: seed of the wrong letters.
    """

    steering: Steering
    questions: QuestionSet
    config: ReroutingConfig
    seed: int

    @property
    def steps(self) -> int:
        """Most steps of a descent."""
        return STEPS if self.config.steps is None else self.config.steps

    def cost(self, index: int) -> int:
        """Number of tokens of the question itself."""
        return self.questions.lengths[index]

    def reroute(self, batch: Batch) -> Rerouted:
        """Descend towards each question's answer; and, for the columns named "wrong", towards a wrong letter."""
        right_B = self.questions.answer_S[batch.question_B]
        wrong_B = self.wrong_letters(batch)
        right, wrong = self.descend(batch, right_B), self.descend(batch, wrong_B)
        loss_B = batch.letters.losses(batch.forward.reading.logits_BU, batch.question_B, wrong_B)
        columns = {
            "steps": right.steps_B.tolist(),
            "wrong_letter": wrong_B.tolist(),
            "wrong_after": wrong.answers.predicted_B.tolist(),
            "wrong_steps": wrong.steps_B.tolist(),
            "logprob_wrong_before": (-loss_B).tolist(),
        }
        return Rerouted(right.answers, columns)

    def flops(self, batch: Batch, table: pl.DataFrame) -> float:
        """Operations of a step for the question of `batch`, times the mean number of steps; without the control."""
        letter_B, prompts = self.questions.answer_S[batch.question_B], self._prompts(batch)

        def forward(gradient: bool) -> None:
            added_BF = torch.zeros_like(batch.forward.logits_BF, requires_grad=gradient)
            loss_B, _ = self._forward(batch, prompts, torch.arange(1), added_BF, letter_B)
            if gradient:
                torch.autograd.grad(loss_B.sum(), added_BF)

        steps = table["steps"].replace(-1, self.steps).to_numpy()
        share_with_steps = (steps > 0).mean()
        once = count(lambda: self._prompts(batch)) + count(lambda: forward(False))  # a forward after the last step
        return float(share_with_steps * once + steps.mean() * count(lambda: forward(True)))

    def descend(self, batch: Batch, letter_B: Tensor) -> Descent:
        """Descend on −log p(letter) until the model predicts that letter, for at most `steps` steps."""
        predicted_B, logprob_B = batch.base_answers.predicted_B.clone(), batch.base_answers.logprob_B.clone()
        steps_B = torch.where(predicted_B == letter_B, 0, -1)
        added_BF = torch.zeros_like(batch.forward.logits_BF)
        left_R = (steps_B < 0).nonzero().flatten()
        if not self.steps or not len(left_R):
            return Descent(Answers(predicted_B, logprob_B), steps_B)
        prompts = self._prompts(batch).select(left_R)
        for step in range(self.steps + 1):
            added_RF = added_BF[left_R].requires_grad_(step < self.steps)
            loss_R, answers = self._forward(batch, prompts, left_R, added_RF, letter_B)
            predicted_B[left_R], logprob_B[left_R] = answers.predicted_B, answers.logprob_B
            reached_R = answers.predicted_B == letter_B[left_R]
            steps_B[left_R[reached_R]] = step
            going = (~reached_R).nonzero().flatten()
            if step == self.steps or not len(going):
                break
            (gradient_RF,) = torch.autograd.grad(loss_R[going].sum(), added_RF)
            if len(going) < len(left_R):
                left_R, prompts = left_R[going], prompts.select(going)
            added_BF[left_R] += descent_step(gradient_RF[going], self.config)
        return Descent(Answers(predicted_B, logprob_B), steps_B)

    def wrong_letters(self, batch: Batch) -> Tensor:
        """A random wrong choice [B] of each question, not the base model's prediction if there is another.

        The draw depends on the seed and the question alone.
        """
        drawn_N = torch.rand(len(self.questions.ids), generator=torch.Generator().manual_seed(self.seed))
        chosen = []
        for i, base in zip(batch.indices, batch.base_answers.predicted_B.tolist(), strict=True):
            question = self.questions.questions[i]
            wrong = [letter for letter in range(len(question.choices)) if letter != question.answer]
            other = [letter for letter in wrong if letter != base] or wrong
            chosen.append(other[int(drawn_N[i] * len(other))])
        return torch.tensor(chosen)

    def _prompts(self, batch: Batch) -> TailPrompts:
        return self.steering.prompts(batch.prompts, batch.forward.states)

    def _forward(
        self, batch: Batch, prompts: TailPrompts, left_R: Tensor, added_RF: Tensor, letter_B: Tensor
    ) -> tuple[Tensor, Answers]:
        """Loss and answers of the questions `left_R` of the batch, with `added_RF` added to their router logits."""
        with torch.set_grad_enabled(added_RF.requires_grad):
            reading = self.steering.with_added(prompts, added_RF)
            loss_R = batch.letters.losses(reading.logits_BU, batch.question_B[left_R], letter_B[left_R]).cpu()
        return loss_R, batch.letters.answers(reading.logits_BU, batch.question_B[left_R])


def oracle_figures(table: pl.DataFrame, domains: Sequence[str], seed: int) -> dict[str, Any]:
    """The oracle compared with its control, overall and by domain, for align.json.

    `wrong` has the figures of the questions that the base model answers wrong with another letter than the control's:
    there neither descent starts at its own letter. `all` counts every question; there the right letter has an
    advantage, since the base model often predicts it without a step.

    Args:
        table: the answers table of the oracle.
        domains: names of the domains, in order.
        seed: seed of the resampled questions.
    """
    fair = table.filter((pl.col("before") != pl.col("answer")) & (pl.col("before") != pl.col("wrong_letter")))
    by_domain = {domain: _excess(fair.filter(pl.col("domain") == domain), seed) for domain in domains}
    return {"wrong": {"overall": _excess(fair, seed), "domains": by_domain}, "all": _excess(table, seed)}


def _excess(table: pl.DataFrame, seed: int) -> Mapping[str, Any]:
    """Shares of questions that reached the right and the wrong letter; their difference with its 95 % interval."""
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
    """Mean number of steps of the descents that reached their letter."""
    mean = steps.filter(steps >= 0).mean()
    return None if mean is None else float(mean)  # type: ignore[arg-type]  # polars: of any dtype
