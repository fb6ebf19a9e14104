"""One run of a method that trains nothing, from the base model's reading to its figures."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import torch

from turnout.aligning.answers import Letters, accuracy
from turnout.aligning.config import AlignConfig
from turnout.aligning.neighbors import embed, references
from turnout.aligning.questions import Asked
from turnout.aligning.reading import Read, read_base
from turnout.aligning.rerouting.answering import Asking, Method
from turnout.aligning.rerouting.c3po import C3PO
from turnout.aligning.rerouting.oracle import Oracle, oracle_figures
from turnout.aligning.rerouting.references import References, nearest
from turnout.aligning.rerouting.steering import Steering
from turnout.models.forward.tail import Tail
from turnout.progress import Progress
from turnout.runs.tables import frame


@dataclass(frozen=True, eq=False)
class Found:
    """What a run found: the answers' table, figures for align.json, and times."""

    answers: pa.Table
    figures: Mapping[str, Any]
    timings: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Work:
    """The questions, and how their routing is changed; use it inside `tail.opened()`.

    Attributes:
        tail: the layers whose routing changes.
        asked: the training questions, from whose successful ones C3PO takes neighbours.
        tested: the questions whose routing changes.
        config: the method.
        folder: keeps what was found so far.
        progress: told how far it is.
    """

    tail: Tail
    asked: Asked
    tested: Asked
    config: AlignConfig
    folder: Path
    progress: Progress

    def run(self) -> Found:
        """Ask all tested questions with changed routing."""
        steering, timings = Steering.checked(self.tail, self.tested.ids[:4]), dict[str, float]()
        started = time.monotonic()
        method, figures = self._oracle(steering) if self.config.method == "oracle" else self._c3po(steering, timings)
        prepared = time.monotonic()
        asking = Asking(steering, self._letters(self.tested), method, self.config.reading.token_budget)
        answers = asking.ask(self.folder / "answers.jsonl", self.progress)
        timings |= {"preparing_seconds": prepared - started, "asking_seconds": time.monotonic() - prepared}
        table, seed, domains = frame(answers), self.config.schedule.seed, self.tested.tasks.domains
        said: dict[str, Any] = {
            **_NOT_TRAINED,
            "questions": len(self.asked.ids),
            **figures,
            "accuracy": accuracy(table, domains, seed),
            "flops": asking.flops(table),
            "rerouting": self._summary(table),
        }
        return Found(answers, said, timings)

    def _oracle(self, steering: Steering) -> tuple[Method, dict[str, Any]]:
        return Oracle(steering, self.tested, self.config.rerouting, self.config.schedule.seed), {}

    def _c3po(self, steering: Steering, timings: dict[str, float]) -> tuple[Method, dict[str, Any]]:
        letters, budget = self._letters(self.asked), self.config.reading.token_budget
        most = int(self.config.schedule.cache_gb * 1e9)
        base, states = read_base(self.tail, letters, self.folder, most, budget, self.progress)
        near = self._references(base)
        method = C3PO(steering, near, base.routing_SF, states, letters, self.config.rerouting, self.config.manifold.k)
        right_S = base.predicted_S == self.asked.answer_S
        timings["state_bytes"] = states.bytes
        return method, {
            "successful": int(right_S.sum()),
            "references": len(near.question_R),
            "without_neighbours": int((near.index_Nk < 0).all(1).sum()),
            "training_accuracy": {"before": float(right_S.float().mean()), "after": None},
            "cross_entropy": {"before": -float(base.logprob_S.mean()), "after": None},
        }

    def _references(self, base: Read) -> References:
        manifold, rerouting = self.config.manifold, self.config.rerouting
        right_S = base.predicted_S == self.asked.answer_S
        first = references(self.asked.texts, right_S, manifold.k, self.asked.tasks.name)
        question_R = torch.tensor(list(first.values()))
        texts = [[q.text for q in of.questions] for of in (self.tested, self.asked)]
        budget = self.config.reading.token_budget
        tested_NX, train_SX = (embed(of, manifold.embedder, self.tail.moe, budget) for of in texts)
        index_Nk, weight_Nk = nearest(tested_NX, train_SX, question_R, manifold, rerouting.max_similarity)
        routing_RF = base.routing_SF[question_R]
        return References(question_R, routing_RF, index_Nk, weight_Nk, tested_NX, train_SX, manifold.sigma)

    def _summary(self, table: pl.DataFrame) -> dict[str, Any]:
        if self.config.method == "oracle":
            return oracle_figures(table, self.tested.tasks.domains, self.config.schedule.seed)
        mean_alpha = table["alpha"].mean() if table["alpha"].dtype.is_numeric() else None
        return {"moved": table["moved"].mean(), "alpha": mean_alpha}

    def _letters(self, asked: Asked) -> Letters:
        return Letters(asked, among_all=self.config.reading.target == "vocabulary")


_NOT_TRAINED: Mapping[str, Any] = {
    "successful": None,
    "references": None,
    "without_neighbours": None,
    "manifold": {"before": None, "after": None},
    "moved": None,
    "training_accuracy": {"before": None, "after": None},
    "cross_entropy": {"before": None, "after": None},
    "training": None,
}
