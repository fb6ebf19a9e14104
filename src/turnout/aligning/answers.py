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

from turnout.aligning.questions import Asked
from turnout.models.change.adapter import RouterWeights
from turnout.models.forward.batches import plan_batches
from turnout.models.forward.tail import Tail
from turnout.progress import Progress


@dataclass(frozen=True)
class Answers:
    """Answers of some questions.

    Attributes:
        predicted_B: the choice of the greatest logit, the first of equals.
        logprob_B: log-probability of the right letter: among the question's letters, or among all tokens.
    """

    predicted_B: Tensor
    logprob_B: Tensor


@dataclass(frozen=True, eq=False)
class Letters:
    """Where a question's letters stand in the logits that the tail reads.

    Attributes:
        asked: the questions.
        among_all: the logits are those of the whole vocabulary, and a letter is held against all of it.
    """

    asked: Asked
    among_all: bool

    @property
    def wanted(self) -> list[int] | None:
        """The token ids whose logits a tail must read; None for all."""
        return None if self.among_all else self.asked.vocabulary

    def logprobs(self, logits_BU: Tensor, question_B: Tensor) -> Tensor:
        """Log-probabilities [B, W] of the letters of each question; −∞ beyond its choices. Differentiable."""
        letter_BW = self.asked.letter_SW[question_B].to(logits_BU.device)
        none_BW = letter_BW < 0
        if not self.among_all:
            chosen_BW = logits_BU.gather(1, letter_BW.clamp(min=0)).masked_fill(none_BW, -torch.inf)
            return chosen_BW.log_softmax(1)
        vocabulary = torch.tensor(self.asked.vocabulary, device=logits_BU.device)
        token_BW = vocabulary[letter_BW.clamp(min=0)]
        return logits_BU.log_softmax(1).gather(1, token_BW).masked_fill(none_BW, -torch.inf)

    def loss(self, logits_BU: Tensor, question_B: Tensor) -> Tensor:
        """Cross-entropy of the right letter, mean over the batch."""
        answer_B = self.asked.answer_S[question_B].to(logits_BU.device)
        return functional.nll_loss(self.logprobs(logits_BU, question_B), answer_B)

    def read(self, logits_BU: Tensor, question_B: Tensor) -> Answers:
        """Predictions, and how probable the right letter was."""
        logprob_BW = self.logprobs(logits_BU, question_B).cpu()
        answer_B1 = self.asked.answer_S[question_B].unsqueeze(1)
        return Answers(logprob_BW.argmax(1), logprob_BW.gather(1, answer_B1).squeeze(1))


DRAWS, _POWER = 10_000, 2.8  # standard errors that a two-sided 5 % test finds four times in five


def answers(tail: Tail, letters: Letters, weights: RouterWeights, token_budget: int, progress: Progress) -> pa.Table:
    """One row a question: the base model's answer and that of the trained routers, from one pass over the questions.

    The whole model reads a batch once; the trained routers go on from what entered the tail.
    """
    asked, rows, done = letters.asked, {}, 0
    for batch in plan_batches(asked.lengths, token_budget):
        prompts, question_B = [asked.ids[i] for i in batch], torch.tensor(batch)
        before, entered = tail.run_model(prompts)
        with torch.no_grad(), weights.in_use():
            after = tail.resume(prompts, entered)
        said = [letters.read(reading.logits_BU, question_B) for reading in (before, after)]
        for at, i in enumerate(batch):
            rows[i] = [(int(of.predicted_B[at]), float(of.logprob_B[at])) for of in said]
        done += sum(asked.lengths[i] for i in batch)
        progress("asking the evaluation questions", done, sum(asked.lengths), "tokens")
    return answers_table(letters, rows)


def accuracy(table: pl.DataFrame, domains: Sequence[str], seed: int) -> dict[str, Any]:
    """Accuracy before and after, overall and by domain, with the paired difference's 95 % interval.

    Args:
        table: what `answers` returned.
        domains: names, in order.
        seed: of the resamples of questions.
    """
    by_domain = {domain: _paired(table.filter(pl.col("domain") == domain), seed) for domain in domains}
    return {"overall": _paired(table, seed), "domains": by_domain}


def _paired(table: pl.DataFrame, seed: int) -> Mapping[str, Any]:
    right = [(table[name] == table["answer"]).to_numpy() for name in ("before", "after")]
    difference = right[1].astype(int) - right[0].astype(int)
    n = len(difference)
    return {
        "questions": n,
        "before": float(right[0].mean()),
        "after": float(right[1].mean()),
        "difference": float(difference.mean()),
        "interval": paired_interval(difference, seed),
        "gained": int((difference > 0).sum()),
        "lost": int((difference < 0).sum()),
        "detectable": float(_POWER * difference.std(ddof=1) / np.sqrt(n)) if difference.any() and n > 1 else None,
    }


def paired_interval(difference: NDArray[np.int_], seed: int) -> list[float] | None:
    """The middle 95 % of the mean over resampled questions; None where no answer changed: nothing would vary."""
    n = len(difference)
    if not difference.any():
        return None
    shares = [(difference > 0).mean(), (difference < 0).mean(), (difference == 0).mean()]
    drawn = np.random.default_rng(seed).multinomial(n, shares, DRAWS)  # questions drawn anew, by what became of them
    return [float(bound) for bound in np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])]


def answers_table(letters: Letters, rows: Mapping[int, Sequence[tuple[int, float]]]) -> pa.Table:
    """One row a question: (choice, log-probability of the right letter) before and after, by its number."""
    questions = letters.asked.questions
    return pa.table(
        {
            "id": [q.id for q in questions],
            "subject": [q.subject for q in questions],
            "domain": [q.domain for q in questions],
            "answer": pa.array([q.answer for q in questions], pa.int16()),
            "before": pa.array([rows[i][0][0] for i in range(len(questions))], pa.int16()),
            "after": pa.array([rows[i][1][0] for i in range(len(questions))], pa.int16()),
            "logprob_before": [rows[i][0][1] for i in range(len(questions))],
            "logprob_after": [rows[i][1][1] for i in range(len(questions))],
        }
    )
