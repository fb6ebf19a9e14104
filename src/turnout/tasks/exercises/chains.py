"""Chains of modular arithmetic: "start 5 add 8 mul 3 : 5 add 8 is 13 mul 3 is 16 . 16 ."; the dial is the operations.

Every step restates its operation, so that finding what to do next and doing it fall on different tokens; the answer
stands behind the full stop. Operands are the smaller the commoner, so that the arithmetic is learnt bit by bit; where
all are as common, small models know none of it for long, then all at once. Problems are split by content: no problem of
the test split occurs in train, for any seed (a quarter of all problems, by digest).
"""

from collections.abc import Iterator, Sequence

from turnout.errors import TaskError
from turnout.tasks.exercises.exercise import Exercise
from turnout.tasks.exercises.vocabulary import MODULUS
from turnout.tasks.worlds.problem import Draw, split_of

OPERATIONS = {"add": int.__add__, "sub": int.__sub__, "mul": int.__mul__}


def chains(split: str, n: int, levels: Sequence[int], seed: int = 0) -> Iterator[Exercise]:
    """`n` problems of `split`, dealt in turn to the `levels` (operations each).

    Raises:
        TaskError: an unknown split, no level or one below 1.
    """
    if split not in ("train", "test") or n < 0:
        raise TaskError("chains", expected="train or test, and a number of problems", received=f"{split}, {n}")
    if not levels or min(levels) < 1:
        raise TaskError("chains", expected="levels of one operation or more", received=list(levels))
    for i in range(n):
        yield _problem(split, levels[i % len(levels)], Draw("chain", seed, split, i), f"chain-{split}-{seed}-{i}")


def _problem(split: str, level: int, draw: Draw, name: str) -> Exercise:
    while True:
        start = draw.below(MODULUS)
        steps = [(draw.pick(tuple(OPERATIONS)), _operand(draw)) for _ in range(level)]
        prompt = " ".join(["start", str(start), *(f"{name} {by}" for name, by in steps), ":"])
        if split_of(f"chain:{prompt}") == split:
            break
    values = [start]
    for operation, by in steps:
        values.append(OPERATIONS[operation](values[-1], by) % MODULUS)
    answer = str(values[-1])
    written = " ".join(f"{operation} {by} is {value}" for (operation, by), value in zip(steps, values[1:], strict=True))
    return Exercise(name, "reasoning", level, prompt, f"{start} {written} . {answer} .", answer)


def _operand(draw: Draw) -> int:
    """One of 1..22; k with probability Σ_{m ≥ k} 1/22m: from .168 for 1 down to .002 for 22."""
    return 1 + draw.below(1 + draw.below(MODULUS - 1))
