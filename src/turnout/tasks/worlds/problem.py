"""Parts of every domain: platform-independent random draws, problems, topics, and the train/test split."""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Split = Literal["train", "test"]
Kind = Literal["recall", "reasoning"]
T = TypeVar("T")

_TEST_SHARE = 64  # of 256: a quarter of all reasoning problems are in the test split
_MAX_TRIES = 10_000


class Draw:
    """Random choices that are the same on every platform and Python version, as `random.random` is."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big")).random  # noqa: S311  not for cryptography

    def below(self, n: int) -> int:
        """An integer from 0 to n − 1."""
        return int(self._random() * n)

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[T]) -> T:
        """One of `items`."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], k: int) -> list[T]:
        """`k` of `items` at different positions, in random order."""
        pool = list(items)
        return [pool.pop(self.below(len(pool))) for _ in range(k)]


@dataclass(frozen=True)
class Problem:
    """A question, its solution, and wrong answers.

    Args:
        key: the content without the wording: equal keys are the same problem and are in the same split.
        text: the question.
        steps: the solution in sentences.
        answer: the right answer.
        wrong: wrong answers, at least three that differ from each other and from the answer.
    """

    key: str
    text: str
    steps: str
    answer: str
    wrong: Sequence[str]


@dataclass(frozen=True)
class Domain:
    """A domain: its subjects, its problems, and its training texts.

    Args:
        kind: "recall" where facts are stated, "reasoning" where each problem is new.
        subjects: the topics, used in rotation.
        problem: (split, subject, draw) → a problem of that split.
        statement: (split, number of the statement, draw) → a training text.
    """

    kind: Kind
    subjects: tuple[str, ...]
    problem: Callable[[Split, str, Draw], Problem]
    statement: Callable[[Split, int, Draw], str]


def reasoning(name: str, topics: dict[str, Callable[[Draw], Problem]]) -> Domain:
    """A domain whose problems are split by content: no problem of the test split occurs in train."""
    subjects = tuple(topics)

    def problem(split: Split, subject: str, draw: Draw) -> Problem:
        for _ in range(_MAX_TRIES):
            candidate = topics[subject](draw)
            if split_of(f"{name}:{candidate.key}") == split:
                return candidate
        raise AssertionError(f"{name}/{subject} has no problem in {split}")

    def statement(split: Split, number: int, draw: Draw) -> str:
        solved = problem(split, subjects[number % len(subjects)], draw)
        closing = draw.pick(("The answer is {}.", "So the answer is {}.", "Answer: {}.", "That makes {}."))
        gap = "\n" if "\n" in solved.text else " "
        return f"{solved.text}{gap}{solved.steps} {closing.format(solved.answer)}"

    return Domain("reasoning", subjects, problem, statement)


def split_of(key: str) -> Split:
    """The split of the problem `key`, for every seed."""
    return "test" if hashlib.sha256(key.encode()).digest()[0] < _TEST_SHARE else "train"


def choices(problem: Problem, draw: Draw) -> tuple[tuple[str, ...], int]:
    """Four choices and the index of the right one, uniform over the four positions."""
    wrong = [w for w in dict.fromkeys(problem.wrong) if w != problem.answer]
    assert len(wrong) >= 3, f"only {wrong} against {problem.answer}: {problem.text}"
    options = draw.sample(wrong, 3)
    at = draw.below(4)
    return (*options[:at], problem.answer, *options[at:]), at


def near(draw: Draw, value: int, low: int = 0, step: int = 1) -> list[str]:
    """Three other integers within six steps of `value`, none below `low`.

    The number of smaller ones is uniform, so that the right answer is no likelier at any rank.
    """
    under = [v for v in range(value - 6 * step, value, step) if v >= low]
    smaller = min(draw.below(4), len(under))
    over = range(value + step, value + 7 * step, step)
    return [str(v) for v in draw.sample(under, smaller) + draw.sample(over, 3 - smaller)]
