"""Predictions and loss from answer-letter logits; accuracy before and after.

Shapes: B questions of a batch, W choices of the question that has most, U letters (or the vocabulary).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from turnout.aligning.config import AlignConfig
from turnout.aligning.questions import QuestionSet
from turnout.listener import Listener
from turnout.models.change.adapter import RouterWeights
from turnout.models.forward.batches import plan_batches
from turnout.models.forward.tail import Tail

RESAMPLES = 10_000
_POWER = 2.8  # standard errors that a two-sided 5 % test detects four times in five


@dataclass(frozen=True)
class Answers:
    """Answers to the questions of a batch.

    Attributes:
        predicted_B: the choice of the greatest logit, the first of equal ones.
        logprob_B: log-probability of the right letter: among the question's letters, or among all tokens.
    """

    predicted_B: Tensor
    logprob_B: Tensor


@dataclass(frozen=True, eq=False)
class Letters:
    """Answer letters of some questions in the logits that the tail computes.

    Attributes:
        questions: the questions.
        among_all: whether logits cover the whole vocabulary and a letter's probability is among all tokens.
    """

    questions: QuestionSet
    among_all: bool

    @classmethod
    def of(cls, questions: QuestionSet, config: AlignConfig) -> "Letters":
        """The letters of `questions`, among what the configuration's `target` names."""
        return cls(questions, among_all=config.reading.target == "vocabulary")

    @property
    def token_ids(self) -> list[int] | None:
        """Token ids whose logits a tail must compute; None for the whole vocabulary."""
        return None if self.among_all else self.questions.vocabulary

    def logprobs(self, logits_BU: Tensor, question_B: Tensor) -> Tensor:
        """Log-probabilities [B, W] of the letters of each question; −∞ beyond its choices. Differentiable."""
        letter_BW = self.questions.letter_SW[question_B].to(logits_BU.device)
        none_BW = letter_BW < 0
        if not self.among_all:
            chosen_BW = logits_BU.gather(1, letter_BW.clamp(min=0)).masked_fill(none_BW, -torch.inf)
            return chosen_BW.log_softmax(1)
        vocabulary = torch.tensor(self.questions.vocabulary, device=logits_BU.device)
        token_BW = vocabulary[letter_BW.clamp(min=0)]
        return logits_BU.log_softmax(1).gather(1, token_BW).masked_fill(none_BW, -torch.inf)

    def losses(self, logits_BU: Tensor, question_B: Tensor, letter_B: Tensor | None = None) -> Tensor:
        """Cross-entropy [B] of one letter of each question, in nats; differentiable.

        Training minimizes its mean, rerouting descends on it, and results report it.

        Args:
            logits_BU: logits that the tail computed.
            question_B: indices of the questions.
            letter_B: the letters, as indices of choices; the right answers by default.
        """
        letter_B = self.questions.answer_S[question_B] if letter_B is None else letter_B
        return functional.nll_loss(
            self.logprobs(logits_BU, question_B), letter_B.to(logits_BU.device), reduction="none"
        )

    def answers(self, logits_BU: Tensor, question_B: Tensor) -> Answers:
        """Predictions and log-probabilities of the right letters, on the CPU."""
        logits_BU = logits_BU.detach().cpu()
        return Answers(self.logprobs(logits_BU, question_B).argmax(1), -self.losses(logits_BU, question_B))


def answer_before_and_after(
    tail: Tail, letters: Letters, weights: RouterWeights, token_budget: int, listener: Listener
) -> pa.Table:
    """Answers of the base routers and of the trained routers to the evaluation questions, one row a question.

    The whole model runs each batch once; the trained routers continue from the tail's input.
    """
    questions, rows, done = letters.questions, {}, 0
    for batch in plan_batches(questions.lengths, token_budget):
        prompts, question_B = [questions.ids[i] for i in batch], torch.tensor(batch)
        before, states = tail.run_model(prompts)
        with torch.no_grad(), weights.in_use():
            after = tail.resume(prompts, states)
        sides = [letters.answers(reading.logits_BU, question_B) for reading in (before, after)]
        for at, i in enumerate(batch):
            rows[i] = [(int(side.predicted_B[at]), float(side.logprob_B[at])) for side in sides]
        done += sum(questions.lengths[i] for i in batch)
        listener.progress("answering the evaluation questions", done, sum(questions.lengths), "tokens")
    return answers_table(questions, rows)


def answers_table(questions: QuestionSet, rows: Mapping[int, Sequence[tuple[int, float]]]) -> pa.Table:
    """One row a question: (choice, log-probability of the right letter) before and after, by the question's index."""
    order = range(len(questions.questions))
    return pa.table(
        {
            "id": [q.id for q in questions.questions],
            "subject": [q.subject for q in questions.questions],
            "domain": [q.domain for q in questions.questions],
            "answer": pa.array([q.answer for q in questions.questions], pa.int16()),
            "before": pa.array([rows[i][0][0] for i in order], pa.int16()),
            "after": pa.array([rows[i][1][0] for i in order], pa.int16()),
            "logprob_before": [rows[i][0][1] for i in order],
            "logprob_after": [rows[i][1][1] for i in order],
        }
    )


def accuracy(table: pl.DataFrame, domains: Sequence[str], seed: int) -> dict[str, Any]:
    """Accuracy before and after, overall and by domain, with the 95 % interval of the paired difference.

    Args:
        table: what `answers_table` returned.
        domains: names of the domains, in order.
        seed: seed of the resampled questions.
    """
    by_domain = {domain: _paired(table.filter(pl.col("domain") == domain), seed) for domain in domains}
    return {"overall": _paired(table, seed), "domains": by_domain}


def _paired(table: pl.DataFrame, seed: int) -> Mapping[str, Any]:
    before, after = ((table[name] == table["answer"]).to_numpy() for name in ("before", "after"))
    difference = after.astype(int) - before.astype(int)
    n = len(difference)
    return {
        "questions": n,
        "before": float(before.mean()),
        "after": float(after.mean()),
        "difference": float(difference.mean()),
        "interval": paired_interval(difference, seed),
        "gained": int((difference > 0).sum()),
        "lost": int((difference < 0).sum()),
        "detectable": float(_POWER * difference.std(ddof=1) / np.sqrt(n)) if difference.any() and n > 1 else None,
    }


def paired_interval(difference: NDArray[np.int_], seed: int) -> list[float] | None:
    """95 % bootstrap interval of the mean of differences of −1, 0 and 1; None if all are 0, where nothing varies."""
    n = len(difference)
    if not difference.any():
        return None
    shares = [(difference > 0).mean(), (difference < 0).mean(), (difference == 0).mean()]
    drawn = np.random.default_rng(seed).multinomial(n, shares, RESAMPLES)  # the same as resampling questions
    return [float(bound) for bound in np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])]
