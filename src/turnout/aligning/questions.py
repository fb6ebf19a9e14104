"""Questions of an alignment as prompts; no training question is among the evaluation questions.

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
class QuestionSet:
    """Questions with a known answer, and their prompts.

    Attributes:
        tasks: the questions.
        ids: token ids of each prompt.
        vocabulary: token ids of all answer letters.
        letter_SW: index of each choice's letter in `vocabulary`; −1 where a question has fewer choices.
        left_out: number of questions that were left out, by reason.
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
        """Number of tokens of each prompt."""
        return [len(ids) for ids in self.ids]

    @cached_property
    def answer_S(self) -> Tensor:  # noqa: N802  a shape suffix
        """The right choice of each question."""
        return torch.tensor([q.answer for q in self.questions])

    @cached_property
    def texts(self) -> list[str]:
        """The normalized text of each question; questions of equal text are duplicates."""
        return [normalize_text(q.text) for q in self.questions]

    def describe(self) -> dict[str, object]:
        """Digests of questions and prompts, for a run's inputs."""
        sha = hashlib.sha256()
        for row in [*self.ids, self.vocabulary]:
            sha.update(f"{list(row)}\n".encode())
        return {"digest": self.tasks.digest, "questions": len(self.ids), "prompts": sha.hexdigest()}


def normalize_text(text: str) -> str:
    """`text` without differences of case, width and white space; two questions of equal normalized text are the same.

    >>> normalize_text("What  is ２ + 2?") == normalize_text("what is 2 + 2?")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def prepare(
    moe: MoE, train: TaskSet, evaluation: TaskSet | None, max_length: int
) -> tuple[QuestionSet, QuestionSet | None]:
    """Select and encode the training and the evaluation questions.

    A training question is left out if it has no answer, has the text of an evaluation question, or is too long. An
    evaluation question is left out if it has no answer.

    Args:
        moe: the model with its tokenizer.
        train: the training questions.
        evaluation: the evaluation questions.
        max_length: most tokens of a training prompt.

    Raises:
        ModelError: the model has no tokenizer.
        TaskError: no question is left to train or to evaluate on, or an evaluation prompt exceeds the model's context.
    """
    if moe.tokenizer is None:
        raise ModelError(moe.model_id, expected="a tokenizer beside the model", received="none", do="pass tokenizer=")
    test = None if evaluation is None else _answered(evaluation)
    short, left_out = _training_prompts(moe, train, test, max_length)
    test_ids = [] if test is None else [encode(moe.tokenizer, q, max_length=moe.max_length) for q in test.questions]
    letters = _letters(moe, [q for q, _ in short], () if test is None else test.questions)
    vocabulary = sorted({i for ids in letters.values() for i in ids})
    tasks = TaskSet.of(train.name, (q for q, _ in short), domain_map=train.domain_map, order=train.domains)
    ids = [ids for _, ids in short]
    training = QuestionSet(tasks, ids, vocabulary, _letter_places(tasks, letters, vocabulary), left_out)
    if evaluation is None or test is None:
        return training, None
    missing = {"without_answer": len(evaluation.questions) - len(test.questions)}
    return training, QuestionSet(test, test_ids, vocabulary, _letter_places(test, letters, vocabulary), missing)


def _training_prompts(
    moe: MoE, train: TaskSet, test: TaskSet | None, max_length: int
) -> tuple[list[tuple[Question, list[int]]], dict[str, int]]:
    """Questions to train on with their token ids, and the number of those left out by reason."""
    test_texts = set() if test is None else {normalize_text(q.text) for q in test.questions}
    answered = _answered(train)
    clean = [q for q in answered.questions if normalize_text(q.text) not in test_texts]
    if not clean:
        received = f"all {len(answered.questions)} of them in the evaluation set"
        raise TaskError(train.name, expected="questions to train on", received=received)
    encoded = [(q, encode(moe.tokenizer, q)) for q in clean]
    longest = min(max_length, moe.max_length or max_length)
    short = [(q, ids) for q, ids in encoded if len(ids) <= longest]
    if not short:
        received = f"{min(len(ids) for _, ids in encoded)} tokens and more"
        raise TaskError(train.name, expected=f"prompts of at most {longest} tokens", received=received)
    return short, {
        "without_answer": len(train.questions) - len(answered.questions),
        "decontaminated": len(answered.questions) - len(clean),
        "too_long": len(clean) - len(short),
    }


def _answered(tasks: TaskSet) -> TaskSet:
    answered = [q for q in tasks.questions if q.choices and q.answer is not None]
    if not answered:
        raise TaskError(tasks.name, expected="questions with choices and a known answer", received="none")
    return TaskSet.of(tasks.name, answered, domain_map=tasks.domain_map, order=tasks.domains)


def _letters(moe: MoE, *groups: Sequence[Question]) -> dict[int, list[int]]:
    """Number of choices → token ids of its letters."""
    widths = {len(q.choices) for questions in groups for q in questions}
    return {width: letter_ids(moe.tokenizer, width) for width in sorted(widths)}


def _letter_places(tasks: TaskSet, letters: dict[int, list[int]], vocabulary: list[int]) -> Tensor:
    """[S, W]: index of each choice's letter in `vocabulary`, −1 beyond a question's choices."""
    widest, place = max(letters), {token: i for i, token in enumerate(vocabulary)}
    rows = [[place[token] for token in letters[len(q.choices)]] for q in tasks.questions]
    return torch.tensor([row + [-1] * (widest - len(row)) for row in rows])
