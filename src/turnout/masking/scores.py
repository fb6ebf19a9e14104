"""Scores of every question under each mask, a piece of the questions at a time, each piece once.

Shapes: S samples (questions and texts), N sets of a target (the first masks nothing).
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from string import ascii_uppercase

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.masking.sets import MaskSet, Target
from turnout.models.change.intervene import mask
from turnout.models.forward.answers import text_bits
from turnout.models.forward.batches import plan_batches
from turnout.models.forward.capture import capture
from turnout.models.forward.generate import continue_greedily
from turnout.models.forward.prefix import Prefix
from turnout.models.wrap.anatomy import MoE
from turnout.runs import RunFolder
from turnout.runs.pieces import read_piece, write_piece
from turnout.tasks.prompts import letter_ids

SCORES = ("correct", "logprob", "generated", "bits")
_MOST_LOGITS = 1 << 27  # of a batch of texts: half a gigabyte
_FORWARDS_A_PIECE = 64  # at least so many; a kill costs at most a piece's work
_SCHEMA = pa.schema([("index", pa.int64()), ("set", pa.int32()), *((name, pa.float64()) for name in SCORES)])


@dataclass(frozen=True)
class Sample:
    """One sample of the audit; `width` is its number of choices, 0 for a text."""

    index: int
    tokens: list[int]
    width: int
    answer: int | None
    n_bytes: int
    domain: str
    subject: str


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Scorer of the same samples under many masks.

    `generate` is how many tokens the model may write for an answer; 0: none is written.
    """

    moe: MoE
    samples: Sequence[Sample]
    token_budget: int
    renormalise: bool
    generate: int

    @cached_property
    def letters(self) -> dict[int, list[int]]:
        """Number of choices → the tokens of its letters."""
        return {width: letter_ids(self.moe.tokenizer, width) for width in {a.width for a in self.samples} if width}

    def batches(self) -> list[list[int]]:
        """Positions in `samples` of each batch: questions, then texts."""
        vocabulary = self.moe.model.config.get_text_config().vocab_size
        budgets = {True: self.token_budget, False: max(1, min(self.token_budget, _MOST_LOGITS // vocabulary))}
        plan = []
        for is_question, budget in budgets.items():
            places = [i for i, a in enumerate(self.samples) if bool(a.width) == is_question]
            chosen = plan_batches([len(self.samples[i].tokens) for i in places], budget)
            plan += [[places[i] for i in batch] for batch in chosen]
        return plan

    def score(
        self, run: RunFolder, target: Target, progress: Callable[[int], None], note: Callable[[str], None]
    ) -> dict[str, NDArray[np.float64]]:
        """Scores [S, N] by name, NaN where a sample has none; `progress` receives the tokens read since its last call.

        Pieces that the run has already, with the right digest, are read and not computed again.
        """
        plan, n_sets = self.batches(), len(target.sets)
        a_piece = max(1, _FORWARDS_A_PIECE // n_sets)
        scores = {name: np.full((len(self.samples), n_sets), np.nan) for name in SCORES}
        for number in range(0, len(plan), a_piece):
            name = f"scores_{target.name}_{number // a_piece:05d}"
            table = read_piece(run, name, _SCHEMA, note)
            if table is None:
                parts = [self._batch(target, batch) for batch in plan[number : number + a_piece]]
                table = pa.concat_tables(parts)
                write_piece(run, name, table)
            place = {a.index: i for i, a in enumerate(self.samples)}
            rows = [place[index] for index in table["index"].to_pylist()]
            for score in SCORES:
                values = table[score].to_numpy(zero_copy_only=False).astype(np.float64)
                scores[score][rows, table["set"].to_numpy()] = values
            progress(sum(len(self.samples[i].tokens) for b in plan[number : number + a_piece] for i in b) * n_sets)
        return scores

    def _batch(self, target: Target, batch: Sequence[int]) -> pa.Table:
        """Every set's scores of one batch: one whole forward, then only what lies above the masked layers."""
        samples = [self.samples[i] for i in batch]
        answer = self._answer if samples[0].width else self._read
        by_set: list[dict[str, list[float | None]]] = []
        prefix = Prefix.before(self.moe, min((x.layer for x in target.layers), default=0))
        with prefix.recording():
            by_set.append(answer(samples))
        usable = bool(prefix.below) and _resumes(prefix, lambda: answer(samples), by_set[0])
        for masked in target.sets[1:]:
            with prefix.resuming() if usable else nullcontext(), self._masking(masked):
                by_set.append(answer(samples))
        for masked, scores in zip(target.sets, by_set, strict=True):
            with self._masking(masked):
                scores["generated"] = self._write(samples)
        return _table(samples, by_set)

    def _masking(self, masked: MaskSet) -> AbstractContextManager[None]:
        return mask(self.moe, masked.experts, renormalise=self.renormalise)

    def _answer(self, samples: Sequence[Sample]) -> dict[str, list[float | None]]:
        """Whether the right letter is the most probable one (the first of equals), and its log-probability."""
        letters = [self.letters[a.width] for a in samples]
        bare = replace(self.moe, layers=())  # no routing is captured: the mask changes what routers return
        logprobs = capture(bare, [a.tokens for a in samples], letters=letters).choice_logprobs
        assert logprobs is not None
        correct = [float(int(np.argmax(row)) == a.answer) for row, a in zip(logprobs, samples, strict=True)]
        logprob = [row[a.answer] for row, a in zip(logprobs, samples, strict=True) if a.answer is not None]
        return {"correct": list(correct), "logprob": list(logprob), "bits": [None] * len(samples)}

    def _read(self, texts: Sequence[Sample]) -> dict[str, list[float | None]]:
        bits = text_bits(self.moe, [a.tokens for a in texts])
        return {"correct": [None] * len(texts), "logprob": [None] * len(texts), "bits": list(bits)}

    def _write(self, samples: Sequence[Sample]) -> list[float | None]:
        """1 for the right letter in the generated text, 0 for a wrong one, −1 for none."""
        if not self.generate or not samples[0].width:
            return [None] * len(samples)
        written = continue_greedily(self.moe, [a.tokens for a in samples], self.generate)
        assert self.moe.tokenizer is not None
        texts = [self.moe.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
        letters = [parse_letter(text, a.width) for text, a in zip(texts, samples, strict=True)]
        return [-1.0 if x is None else float(x == a.answer) for x, a in zip(letters, samples, strict=True)]


def parse_letter(text: str, width: int) -> int | None:
    """The choice that a written answer names, from 0; None if it names none of the first `width` letters.

    A letter at the start ("B", "B.", "(B) because"), or after the word "answer" ("the answer is B"); a capital,
    standing alone. The article in "A cat" is no answer.

    >>> parse_letter(" B. Paris", 4), parse_letter("The answer is (C).", 4), parse_letter("A cat", 4)
    (1, 2, None)
    """
    letters = ascii_uppercase[:width]
    start = re.match(rf"\W*([{letters}])(?![A-Za-z0-9'])(?!\s+[a-z])", text)
    after = re.search(rf"\b[Aa]nswer\b(?:\s+is)?\W*([{letters}])(?![A-Za-z0-9'])", text)
    by_set = start or after
    return letters.index(by_set.group(1)) if by_set else None


def _resumes(
    prefix: Prefix, answer: Callable[[], dict[str, list[float | None]]], whole: dict[str, list[float | None]]
) -> bool:
    """Whether resuming from the recorded layer gives exactly the result of the whole forward."""
    with prefix.resuming():
        return answer() == whole


def _table(samples: Sequence[Sample], by_set: Sequence[dict[str, list[float | None]]]) -> pa.Table:
    index = [a.index for a in samples]
    columns = {name: [value for scores in by_set for value in scores[name]] for name in SCORES}
    return pa.table(
        {
            "index": index * len(by_set),
            "set": [j for j in range(len(by_set)) for _ in index],
            **columns,
        },
        schema=_SCHEMA,
    )


def total_tokens(samples: Sequence[Sample], chosen: Sequence[Target]) -> int:
    """Tokens that the model reads under all sets of all targets."""
    return sum(len(a.tokens) for a in samples) * sum(len(target.sets) for target in chosen)
