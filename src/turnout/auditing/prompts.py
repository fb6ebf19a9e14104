"""Prompts of an audit: every question's token ids, and the tokens of its answer letters."""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from turnout.auditing.config import AuditConfig
from turnout.errors import ModelError, TaskError
from turnout.models.wrap.anatomy import MoE
from turnout.tasks.prompts import choose_shots, encode, letter_ids
from turnout.tasks.question import Question, TaskSet


@dataclass(frozen=True)
class Prompts:
    """Token ids of each question, in the order of the questions; `letters` is None if answers are not read."""

    ids: Sequence[Sequence[int]]
    letters: list[list[int]] | None

    @property
    def lengths(self) -> list[int]:
        """Tokens of each question."""
        return [len(ids) for ids in self.ids]

    def digest(self) -> str:
        """SHA-256 (hex) of all token ids: another tokenizer, template or set of examples is another input."""
        sha = hashlib.sha256()
        for row in [*self.ids, *(self.letters or [])]:
            sha.update(f"{list(row)}\n".encode())
        return sha.hexdigest()


def encode_all(moe: MoE, tasks: TaskSet, config: AuditConfig, dev: Sequence[Question] | None = None) -> Prompts:
    """The prompts of `tasks` for `moe`.

    Args:
        moe: its tokenizer and context length are used.
        tasks: the questions.
        config: the number of examples before a question, and whether its answer is read.
        dev: the pool of examples; None: the questions themselves, each without itself.

    Raises:
        ModelError: the model has no tokenizer.
        TaskError: no question, a prompt that is too long, too few examples, or no answer to read.
    """
    if moe.tokenizer is None:
        raise ModelError(moe.model_id, expected="a tokenizer beside the model", received="none", do="pass tokenizer=")
    if not tasks.questions:
        raise TaskError(tasks.name, expected="at least one question", received="none")
    pool = tasks.questions if dev is None else dev
    ids = []  # arrays: all are in memory together, and a list takes nine times as much
    for question in tasks.questions:
        shots = choose_shots(question, pool, config.shots) if config.shots and question.choices else ()
        ids.append(array("i", encode(moe.tokenizer, question, shots=shots, max_length=moe.max_length)))
    return Prompts(ids, _letters(moe, tasks) if config.answers else None)


def _letters(moe: MoE, tasks: TaskSet) -> list[list[int]]:
    widths = {len(question.choices) for question in tasks.questions}
    if widths == {0}:
        received = "texts without choices"
        raise TaskError(tasks.name, expected="questions with choices", received=received, do="audit without answers")
    letters = {width: letter_ids(moe.tokenizer, width) if width else [] for width in widths}
    return [letters[len(question.choices)] for question in tasks.questions]
