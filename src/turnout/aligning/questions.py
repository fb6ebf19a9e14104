"""The questions of an alignment: those that can be trained on, as tokens, none of them among those it is tested on.

Shapes: S questions, W choices of the question that has most.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from turnout.errors import ModelError, TaskError
from turnout.models.wrap.anatomy import MoE
from turnout.tasks.prompts import encode, letter_ids
from turnout.tasks.question import Question, TaskSet


@dataclass(frozen=True, eq=False)
class Asked:
    """Questions that have an answer, and their prompts.

    Attributes:
        tasks: the questions.
        ids: token ids of each.
        vocabulary: the tokens of all their letters.
        letter_SW: place of each choice's letter in `vocabulary`, −1 where a question has fewer choices.
        left_out: how many questions of the set were left out, by reason.
    """

    tasks: TaskSet
    ids: list[list[int]]
    vocabulary: list[int]
    letter_SW: Tensor
    left_out: dict[str, int]

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions, in order."""
        return self.tasks.questions

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [len(ids) for ids in self.ids]

    @cached_property
    def answer_S(self) -> Tensor:  # noqa: N802  a shape suffix
        """The right choice of each question."""
        return torch.tensor([q.answer for q in self.questions])

    @cached_property
    def texts(self) -> list[str]:
        """Each question's text, normalised: questions of equal text are duplicates."""
        return [normalised(q.text) for q in self.questions]

    def describe(self) -> dict[str, object]:
        """What a run's inputs say of the questions."""
        sha = hashlib.sha256()
        for row in [*self.ids, self.vocabulary]:
            sha.update(f"{list(row)}\n".encode())
        return {"digest": self.tasks.digest, "questions": len(self.ids), "prompts": sha.hexdigest()}


def normalised(text: str) -> str:
    """`text` without differences of case, width and white space: what makes two questions the same one.

    >>> normalised("What  is ２ + 2?") == normalised("what is 2 + 2?")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def prepare(moe: MoE, train: TaskSet, evaluation: TaskSet | None, max_length: int) -> tuple[Asked, Asked | None]:
    """The questions to train on and those to test on, with letters in common.

    Training leaves out questions without an answer, those whose text is asked in the test, and prompts longer than
    `max_length`; each is counted. The test leaves out questions without an answer.

    Raises:
        ModelError: the model came without a tokenizer.
        TaskError: nothing is left to train on or to test on; a test prompt longer than the model's context.
    """
    if moe.tokenizer is None:
        raise ModelError(moe.model_id, expected="a tokenizer beside the model", received="none", do="pass tokenizer=")
    tested = None if evaluation is None else _answered(evaluation)
    texts = set() if tested is None else {normalised(q.text) for q in tested.questions}
    answered = _answered(train)
    kept = [q for q in answered.questions if normalised(q.text) not in texts]
    if not kept:
        received = f"all {len(answered.questions)} of them in the evaluation set"
        raise TaskError(train.name, expected="questions to train on", received=received)
    encoded = [(q, encode(moe.tokenizer, q)) for q in kept]
    longest = min(max_length, moe.max_length or max_length)
    fit = [(q, ids) for q, ids in encoded if len(ids) <= longest]
    if not fit:
        received = f"{min(len(ids) for _, ids in encoded)} tokens and more"
        raise TaskError(train.name, expected=f"prompts of at most {longest} tokens", received=received)
    left_out = {
        "without_answer": len(train.questions) - len(answered.questions),
        "decontaminated": len(answered.questions) - len(kept),
        "too_long": len(kept) - len(fit),
    }
    test_ids = [] if tested is None else [encode(moe.tokenizer, q, max_length=moe.max_length) for q in tested.questions]
    letters = _letters(moe, [q for q, _ in fit], () if tested is None else tested.questions)
    vocabulary = sorted({i for ids in letters.values() for i in ids})
    chosen = TaskSet.of(train.name, (q for q, _ in fit), domain_map=train.domain_map, order=train.domains)
    asked = Asked(chosen, [ids for _, ids in fit], vocabulary, _places(chosen, letters, vocabulary), left_out)
    if evaluation is None or tested is None:
        return asked, None
    missing = {"without_answer": len(evaluation.questions) - len(tested.questions)}
    return asked, Asked(tested, test_ids, vocabulary, _places(tested, letters, vocabulary), missing)


def _answered(tasks: TaskSet) -> TaskSet:
    kept = [q for q in tasks.questions if q.choices and q.answer is not None]
    if not kept:
        raise TaskError(tasks.name, expected="questions with choices and a known answer", received="none")
    return TaskSet.of(tasks.name, kept, domain_map=tasks.domain_map, order=tasks.domains)


def _letters(moe: MoE, *asked: Sequence[Question]) -> dict[int, list[int]]:
    """Number of choices → tokens of its letters."""
    widths = {len(q.choices) for questions in asked for q in questions}
    return {width: letter_ids(moe.tokenizer, width) for width in sorted(widths)}


def _places(tasks: TaskSet, letters: dict[int, list[int]], vocabulary: list[int]) -> Tensor:
    """[S, W]: where each question's letters stand in `vocabulary`, −1 beyond its choices."""
    widest, place = max(letters), {token: i for i, token in enumerate(vocabulary)}
    rows = [[place[token] for token in letters[len(q.choices)]] for q in tasks.questions]
    return torch.tensor([row + [-1] * (widest - len(row)) for row in rows])
