"""Work of a rerouting method: prepare it, answer all evaluation questions, compute the figures of align.json."""

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
from turnout.aligning.neighbors import embed, reference_questions
from turnout.aligning.questions import QuestionSet
from turnout.aligning.reading import Readings, read_base
from turnout.aligning.rerouting.answering import Evaluation, ReroutingMethod
from turnout.aligning.rerouting.c3po import C3PO
from turnout.aligning.rerouting.oracle import Oracle, oracle_figures
from turnout.aligning.rerouting.references import References, nearest_references
from turnout.aligning.rerouting.steering import Steering
from turnout.listener import Listener
from turnout.models.forward.tail import Tail
from turnout.runs.tables import frame

ANSWERS = "answers.jsonl"
"""File of the work folder with the answers so far."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The answers table, the figures for align.json, and the timings of a rerouting."""

    answers: pa.Table
    figures: Mapping[str, Any]
    timings: Mapping[str, float]


def reroute(
    tail: Tail, train: QuestionSet, test: QuestionSet, config: AlignConfig, work: Path, listener: Listener
) -> Outcome:
    """Answer the evaluation questions with changed routing; call it inside `tail.opened()`.

    Args:
        tail: the layers whose routing changes.
        train: the training questions; those that the base model answers right are C3PO's neighbors.
        test: the evaluation questions.
        config: method and settings.
        work: folder that stores finished parts for a resumed run.
        listener: receives progress.

    Raises:
        ModelError: a family whose routing cannot be changed (`Steering.checked`).
        TaskError: too few right answers for k neighbors.
    """
    started = time.monotonic()
    steering, timings = Steering.checked(tail, test.ids[:4]), dict[str, float]()
    if config.method == "oracle":
        method: ReroutingMethod = Oracle(steering, test, config.rerouting, config.schedule.seed)
        figures: dict[str, Any] = {}
    else:
        method, figures = _c3po(steering, train, test, config, work, listener, timings)
    prepared = time.monotonic()
    evaluation = Evaluation(steering, Letters.of(test, config), method, config.reading.token_budget)
    answers = evaluation.run(work / ANSWERS, listener)
    timings |= {"preparing_seconds": prepared - started, "asking_seconds": time.monotonic() - prepared}
    table = frame(answers)
    figures = {
        **_NOT_TRAINED,
        "questions": len(train.ids),
        **figures,
        "accuracy": accuracy(table, test.tasks.domains, config.schedule.seed),
        "flops": evaluation.flops(table),
        "rerouting": _summary(table, test, config),
    }
    return Outcome(answers, figures, timings)


def _c3po(
    steering: Steering,
    train: QuestionSet,
    test: QuestionSet,
    config: AlignConfig,
    work: Path,
    listener: Listener,
    timings: dict[str, float],
) -> tuple[C3PO, dict[str, Any]]:
    """C3PO and the figures of its training questions."""
    letters, max_bytes = Letters.of(train, config), int(config.schedule.cache_gb * 1e9)
    base, states = read_base(steering.tail, letters, work, max_bytes, config.reading.token_budget, listener)
    references = _references(steering.tail, train, test, config, base)
    method = C3PO(steering, references, base.routing_SF, states, letters, config.rerouting, config.manifold.k)
    right_S = base.right(train)
    timings["state_bytes"] = states.bytes
    return method, {
        "successful": int(right_S.sum()),
        "references": len(references.question_R),
        "without_neighbours": int((references.index_Nk < 0).all(1).sum()),
        "training_accuracy": {"before": float(right_S.float().mean()), "after": None},
        "cross_entropy": {"before": base.cross_entropy, "after": None},
    }


def _references(tail: Tail, train: QuestionSet, test: QuestionSet, config: AlignConfig, base: Readings) -> References:
    manifold, budget = config.manifold, config.reading.token_budget
    first = reference_questions(train.texts, base.right(train), manifold.k, train.tasks.name)
    question_R = torch.tensor(list(first.values()))
    test_NX, train_SX = (
        embed([q.text for q in of.questions], manifold.embedder, tail.moe, budget) for of in (test, train)
    )
    max_similarity = config.rerouting.max_similarity
    index_Nk, weight_Nk = nearest_references(test_NX, train_SX, question_R, manifold, max_similarity)
    return References(question_R, base.routing_SF[question_R], index_Nk, weight_Nk, test_NX, train_SX, manifold.sigma)


def _summary(table: pl.DataFrame, test: QuestionSet, config: AlignConfig) -> dict[str, Any]:
    if config.method == "oracle":
        return oracle_figures(table, test.tasks.domains, config.schedule.seed)
    mean_alpha = table["alpha"].mean() if table["alpha"].dtype.is_numeric() else None
    return {"moved": table["moved"].mean(), "alpha": mean_alpha}


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
"""Keys of align.json that have no value where nothing is trained."""
