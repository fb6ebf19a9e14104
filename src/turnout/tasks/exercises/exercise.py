"""A prompt to be continued, the text that teaches it, and the answer that is looked for in what a model writes."""

import hashlib
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["recall", "reasoning", "text"]

_NUMBER = re.compile(r"(?:(?<![\w)])[-−])?(?:\d[\d,]*(?:\.\d+)?|(?<!\w)\.\d+)")  # in "3-5" there is no sign
_ALONE = re.compile(rf"[$€£]?\s*({_NUMBER.pattern})\s*[%.]?")
_GROUPED = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Args:
        id: unique in its set.
        kind: how an answer is read, see `parse_answer`.
        level: the dial: steps of a chain; 0 for a fact.
        prompt: what is asked, as the model reads it.
        solution: what teaches: the steps, if there are any, and the answer; it follows the prompt after a space.
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
    """SHA-256 (hex) of what is asked and what is right, in order."""
    sha = hashlib.sha256()
    for one in exercises:
        sha.update(f"{one.id}\0{one.prompt}\0{one.answer}\0".encode())
    return sha.hexdigest()


def parse_answer(written: str, kind: Kind) -> str | None:
    """The final answer in what a model wrote; None where there is none, which is a wrong answer and casts no vote.

    For recall the first word. For reasoning the last number: `70,000` is 70000, `3.0` is 3, and a full stop or unit
    behind it does not matter. For text the first line that is not empty, without regard to case, spacing and
    punctuation around it. Text is only read, never run.
    """
    if kind == "recall":
        words = written.split()
        return words[0] if words else None
    if kind == "text":
        return next(filter(None, map(_plain, written.splitlines())), None)
    found = _NUMBER.findall(written)
    return _normal(found[-1]) if found else None


def read_gold(gold: str) -> tuple[Kind, str]:
    """How answers to a question are read whose gold answer is `gold`, and the answer itself: GSM8K's behind `####`.

    Reasoning where it is one number (`$18`, `70,000`), else text.

    Raises:
        ValueError: there is none, or it has several lines.
    """
    last = gold.rpartition("####")[2].strip()
    if number := _ALONE.fullmatch(last):
        return "reasoning", _normal(number[1])
    if not _plain(last) or len(last.splitlines()) > 1:
        raise ValueError("an answer of one line, or one behind ####")
    return "text", _plain(last)


def _plain(line: str) -> str:
    return " ".join(line.casefold().split()).strip(string.punctuation + " ")


def _normal(number: str) -> str:
    number = number.replace("−", "-").rstrip(",")
    if "," in number and not _GROUPED.fullmatch(number):  # "3,5" is a list of two numbers: the last one counts
        number = number.rsplit(",", 1)[1]
    whole, _, fraction = number.replace(",", "").partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    digits, fraction = digits.lstrip("0") or "0", fraction.rstrip("0")
    sign = "" if digits == "0" and not fraction else sign
    return f"{sign}{digits}.{fraction}" if fraction else f"{sign}{digits}"
