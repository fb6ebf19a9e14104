"""How a model does on exercises: the loss of the gold solution, and the final answer that it writes itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout import ops
from turnout.models.forward.answers import answer_nats
from turnout.models.forward.generate import continue_greedily
from turnout.tasks.exercises import Exercise, parse_answer

_BATCH = 200


@dataclass(frozen=True)
class Answered:
    """Exercise by exercise.

    Attributes:
        nats: loss of each token of the gold solution.
        n_bytes: UTF-8 bytes of the gold solution.
        said: the final answer that the model wrote greedily; None where it wrote none.
        right: whether that is the gold answer.
    """

    nats: tuple[tuple[float, ...], ...]
    n_bytes: tuple[int, ...]
    said: tuple[str | None, ...]
    right: tuple[bool, ...]

    def figures(self) -> dict[str, Any]:
        """`n`, `nats_per_token`, `nats_per_byte` (means over exercises), `accuracy` with `interval`, `no_answer`."""
        n = len(self.right)
        sums = [math.fsum(of) for of in self.nats]
        return {
            "n": n,
            "nats_per_token": sum(total / len(of) for total, of in zip(sums, self.nats, strict=True)) / n,
            "nats_per_byte": sum(total / size for total, size in zip(sums, self.n_bytes, strict=True)) / n,
            "accuracy": sum(self.right) / n,
            "interval": list(ops.wilson(sum(self.right), n)),
            "no_answer": sum(answer is None for answer in self.said) / n,
        }


def answered(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, exercises: Sequence[Exercise], most_tokens: int = 0
) -> Answered:
    """Ask `model` the `exercises`; it may write as many tokens as the longest solution and one, or `most_tokens`."""
    prompts = [tokenizer(one.prompt)["input_ids"] for one in exercises]
    solutions = [tokenizer(f" {one.solution}", add_special_tokens=False)["input_ids"] for one in exercises]
    nats: list[tuple[float, ...]] = []
    said: list[str | None] = []
    for at in range(0, len(exercises), _BATCH):
        batch = slice(at, at + _BATCH)
        nats += map(tuple, answer_nats(model, prompts[batch], solutions[batch]))
        most = most_tokens or max(map(len, solutions[batch])) + 1
        written = continue_greedily(model, prompts[batch], most)
        texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
        said += [parse_answer(text, one.kind) for text, one in zip(texts, exercises[batch], strict=True)]
    right = tuple(answer == one.answer for answer, one in zip(said, exercises, strict=True))
    return Answered(tuple(nats), tuple(len(one.solution.encode()) for one in exercises), tuple(said), right)
