"""What every domain of the world is made of: draws that repeat anywhere, problems, topics, and the train/test split."""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Split = Literal["train", "test"]
Kind = Literal["recall", "reasoning"]
T = TypeVar("T")

_TEST_SHARE = 64  # of 256: a quarter of all reasoning problems are kept for the test split
_MOST_TRIES = 10_000


class Draw:
    """Random choices that are the same on every platform and Python: only `random.random` is promised to be."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big")).random  # noqa: S311  no secret depends on it

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
    """A question, how it is solved, and answers that are wrong.

    Args:
        key: the content, whatever the wording: equal keys are the same problem and lie in the same split.
        text: the question as it is asked.
        steps: the way to the answer in sentences.
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
    """A domain: its subjects, how one asks about each, and what one tells to teach it.

    Args:
        kind: "recall" where the facts are stated, "reasoning" where each problem is new.
        subjects: the topics, each of them asked in turn.
        ask: (split, subject, draw) → a problem of that split.
        tell: (split, number of the statement, draw) → plain text that teaches.
    """

    kind: Kind
    subjects: tuple[str, ...]
    ask: Callable[[Split, str, Draw], Problem]
    tell: Callable[[Split, int, Draw], str]


def reasoning(name: str, topics: dict[str, Callable[[Draw], Problem]]) -> Domain:
    """A domain whose problems are split by content: no problem of the test split is ever told or asked in train."""
    subjects = tuple(topics)

    def ask(split: Split, subject: str, draw: Draw) -> Problem:
        for _ in range(_MOST_TRIES):
            problem = topics[subject](draw)
            if split_of(f"{name}:{problem.key}") == split:
                return problem
        raise AssertionError(f"{name}/{subject} has no problem in {split}")

    def tell(split: Split, number: int, draw: Draw) -> str:
        problem = ask(split, subjects[number % len(subjects)], draw)
        closing = draw.pick(("The answer is {}.", "So the answer is {}.", "Answer: {}.", "That makes {}."))
        gap = "\n" if "\n" in problem.text else " "
        return f"{problem.text}{gap}{problem.steps} {closing.format(problem.answer)}"

    return Domain("reasoning", subjects, ask, tell)


def split_of(key: str) -> Split:
    """The split that the problem `key` belongs to, for every seed."""
    return "test" if hashlib.sha256(key.encode()).digest()[0] < _TEST_SHARE else "train"


def choices(problem: Problem, draw: Draw) -> tuple[tuple[str, ...], int]:
    """Four choices and the index of the right one, uniform over the four positions."""
    wrong = [w for w in dict.fromkeys(problem.wrong) if w != problem.answer]
    assert len(wrong) >= 3, f"only {wrong} against {problem.answer}: {problem.text}"
    options = draw.sample(wrong, 3)
    at = draw.below(4)
    return (*options[:at], problem.answer, *options[at:]), at


def near(draw: Draw, value: int, low: int = 0, step: int = 1) -> list[str]:
    """Three other integers within six steps of `value`, none under `low`.

    How many of them are smaller is uniform, so that neither the least, the middle nor the largest is the likelier.
    """
    under = [v for v in range(value - 6 * step, value, step) if v >= low]
    smaller = min(draw.below(4), len(under))
    over = range(value + step, value + 7 * step, step)
    return [str(v) for v in draw.sample(under, smaller) + draw.sample(over, 3 - smaller)]
