"""Answers of a model to exercises: loss on the gold solution, and the final answer that it generates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout import ops
from turnout.models.forward.answers import answer_nats
from turnout.models.forward.generate import continue_greedily
from turnout.tasks.exercises import Exercise, parse_answer
from turnout.tasks.prompts import encode_continuation, encode_text

_BATCH = 200  # exercises


@dataclass(frozen=True)
class Answers:
    """One entry an exercise.

    Attributes:
        nats: loss of each token of the gold solution.
        n_bytes: UTF-8 bytes of the gold solution.
        final: the final answer in the greedy continuation; None if there is none.
        right: whether that is the gold answer.
    """

    nats: tuple[tuple[float, ...], ...]
    n_bytes: tuple[int, ...]
    final: tuple[str | None, ...]
    right: tuple[bool, ...]

    def figures(self) -> dict[str, Any]:
        """`n`, `nats_per_token`, `nats_per_byte` (means over exercises), `accuracy` with `interval`, `no_answer`."""
        n = len(self.right)
        sums = [math.fsum(nats) for nats in self.nats]
        return {
            "n": n,
            "nats_per_token": sum(total / len(nats) for total, nats in zip(sums, self.nats, strict=True)) / n,
            "nats_per_byte": sum(total / size for total, size in zip(sums, self.n_bytes, strict=True)) / n,
            "accuracy": sum(self.right) / n,
            "interval": list(ops.wilson(sum(self.right), n)),
            "no_answer": sum(answer is None for answer in self.final) / n,
        }


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    exercises: Sequence[Exercise],
    max_new_tokens: int | None = None,
) -> Answers:
    """Score the gold solution of each exercise, and generate an answer greedily.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        exercises: what is answered.
        max_new_tokens: longest generated answer; None: one token more than the longest gold solution of a batch.
    """
    prompts = [encode_text(tokenizer, one.prompt) for one in exercises]
    scored = [encode_continuation(tokenizer, one.prompt, f" {one.solution}") for one in exercises]
    nats: list[tuple[float, ...]] = []
    final: list[str | None] = []
    for start in range(0, len(exercises), _BATCH):
        batch = slice(start, start + _BATCH)
        contexts, solutions = zip(*scored[batch], strict=True)
        nats += map(tuple, answer_nats(model, contexts, solutions))
        length = max_new_tokens or max(map(len, solutions)) + 1
        generated = continue_greedily(model, prompts[batch], length, tokenizer)
        texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in generated]
        final += [parse_answer(text, one.kind) for text, one in zip(texts, exercises[batch], strict=True)]
    right = tuple(answer == one.answer for answer, one in zip(final, exercises, strict=True))
    return Answers(tuple(nats), tuple(len(one.solution.encode()) for one in exercises), tuple(final), right)
