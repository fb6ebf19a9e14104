"""Generated exercises: facts to recall, chains of modular arithmetic, and the 512 words of both.

A fact is "kelo mura is tavi .": a name of two words and one of 479 values (8.9 bits). The number of facts is the
measure of capacity (as in Physics of Language Models, part 3.3, arXiv 2404.05405, which measures bits per parameter on
longer biographies).

A chain is "start 5 add 8 mul 3 : 5 add 8 is 13 mul 3 is 16 . 16 .". Every step repeats its operation, so that finding
the next operation and computing it fall on different tokens; the answer follows the full stop. Small operands are more
frequent, so that the arithmetic is learned bit by bit: with uniform operands small models learn none of it for long,
then all at once. Problems are split by content: no problem of the test split is in train, for any seed (a quarter of
all problems, by digest).
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product

from turnout.errors import TaskError
from turnout.tasks.exercises.exercise import Exercise
from turnout.tasks.worlds.problem import Draw, split_of

MODULUS = 23
NUMBERS = tuple(map(str, range(MODULUS)))
MARKS = ("is", "start", "add", "sub", "mul", ":", ".")
END, PAD, UNKNOWN = "<end>", "<pad>", "<unk>"
N_WORDS = 479
OPERATIONS = {"add": int.__add__, "sub": int.__sub__, "mul": int.__mul__}

# Pairs of consonant–vowel syllables; 479 of them, evenly spaced.
_SYLLABLES = [c + v for c, v in product("bdfgklmnprstvz", "aeiou")]
_PAIRS = [a + b for a, b in product(_SYLLABLES, _SYLLABLES)]
WORDS = tuple(_PAIRS[i * len(_PAIRS) // N_WORDS] for i in range(N_WORDS))

VOCABULARY = (END, PAD, UNKNOWN, *MARKS, *NUMBERS, *WORDS)
"""The tokens of the exercises' tokenizer: each word is one token."""
assert len(set(VOCABULARY)) == len(VOCABULARY) == 512

MAX_FACTS = N_WORDS * N_WORDS
FACT_BITS = math.log2(N_WORDS)
"""Information in one fact."""
_STRIDE = 70_001  # prime, and coprime to MAX_FACTS: visits every name once


def facts(n: int, seed: int = 0) -> Iterator[Exercise]:
    """The first `n` facts of world `seed`; each name occurs once, and fact i does not depend on `n`.

    Raises:
        TaskError: more facts than names.
    """
    if not 0 <= n <= MAX_FACTS:
        raise TaskError("facts", expected=f"0 to {MAX_FACTS} facts", received=n)
    offset = Draw("facts", seed).below(MAX_FACTS)
    for i in range(n):
        first, second = divmod((offset + i * _STRIDE) % MAX_FACTS, N_WORDS)
        value = WORDS[Draw("fact", seed, i).below(N_WORDS)]
        yield Exercise(f"fact-{seed}-{i}", "recall", 0, f"{WORDS[first]} {WORDS[second]} is", f"{value} .", value)


def chains(split: str, n: int, levels: Sequence[int], seed: int = 0) -> Iterator[Exercise]:
    """`n` chains of `split`, with the numbers of operations in `levels` in rotation.

    Raises:
        TaskError: an unknown split, no level, or a level below 1.
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
    """An integer from 1 to 22; k with probability Σ_{m ≥ k} 1/22m: from .168 for 1 to .002 for 22."""
    return 1 + draw.below(1 + draw.below(MODULUS - 1))
