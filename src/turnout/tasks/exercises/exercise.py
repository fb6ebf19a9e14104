"""One exercise: prompt, solution and answer; and the final answer in a model's output."""

import hashlib
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from turnout.tasks.exercises.numbers import last_number, only_number

Kind = Literal["recall", "reasoning", "text"]


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Args:
        id: unique in its set.
        kind: how an answer is parsed, see `parse_answer`.
        level: number of steps of a chain; 0 for a fact.
        prompt: the model's prompt.
        solution: the training text after the prompt and a space: steps, if any, and the answer.
        answer: the final answer alone.
    """

    id: str
    kind: Kind
    level: int
    prompt: str
    solution: str
    answer: str

    @property
    def text(self) -> str:
        """Prompt and solution."""
        return f"{self.prompt} {self.solution}"


def digest(exercises: Iterable[Exercise]) -> str:
    """SHA-256 (hex) of ids, prompts and answers, in order."""
    sha = hashlib.sha256()
    for one in exercises:
        sha.update(f"{one.id}\0{one.prompt}\0{one.answer}\0".encode())
    return sha.hexdigest()


def parse_answer(output: str, kind: Kind) -> str | None:
    r"""The final answer in a model's output; None where there is none, which counts as wrong and casts no vote.

    For recall the first word. For reasoning the last number, in `\boxed{…}` if there is one: `70,000` is 70000, `3.0`
    is 3, a unit or currency is ignored (see `numbers`). For text the first line that is not empty, without case,
    spacing and surrounding punctuation. The output is only parsed, never executed.
    """
    if kind == "recall":
        words = output.split()
        return words[0] if words else None
    if kind == "text":
        return next(filter(None, map(_plain, output.splitlines())), None)
    return last_number(output)


def read_gold(gold: str) -> tuple[Kind, str]:
    """Kind and final answer of a gold answer; in GSM8K's format the final answer follows `####`.

    The kind is reasoning where the answer is one number (`$18`, `-3`, `70,000`, `5 %`), else text.

    Raises:
        ValueError: there is no answer, or it has several lines.
    """
    last = gold.rpartition("####")[2].strip()
    if (number := only_number(last)) is not None:
        return "reasoning", number
    if not _plain(last) or len(last.splitlines()) > 1:
        raise ValueError("an answer of one line, or one after ####")
    return "text", _plain(last)


def _plain(line: str) -> str:
    return " ".join(line.casefold().split()).strip(string.punctuation + " ")
