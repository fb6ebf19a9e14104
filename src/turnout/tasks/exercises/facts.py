"""Facts that can only be remembered: "kelo mura is tavi ."; a name of two words, a value out of 479 (8.9 bits).

The capacity dial is how many there are (Physics of Language Models, part 3.3, arXiv 2404.05405, measures bits a
parameter in the same way, on longer biographies).
"""

import math
from collections.abc import Iterator

from turnout.errors import TaskError
from turnout.tasks.exercises.exercise import Exercise
from turnout.tasks.exercises.vocabulary import N_WORDS, WORDS
from turnout.tasks.worlds.problem import Draw

MOST = N_WORDS * N_WORDS
BITS = math.log2(N_WORDS)
"""What one fact holds."""
_STRIDE = 70_001  # prime, and prime to MOST: steps through all names without repeating one


def facts(n: int, seed: int = 0) -> Iterator[Exercise]:
    """The first `n` facts of the world `seed`; each name occurs once. Fact i does not depend on `n`.

    Raises:
        TaskError: more facts than names.
    """
    if not 0 <= n <= MOST:
        raise TaskError("facts", expected=f"0 to {MOST} facts", received=n)
    offset = Draw("facts", seed).below(MOST)
    for i in range(n):
        first, second = divmod((offset + i * _STRIDE) % MOST, N_WORDS)
        value = WORDS[Draw("fact", seed, i).below(N_WORDS)]
        yield Exercise(f"fact-{seed}-{i}", "recall", 0, f"{WORDS[first]} {WORDS[second]} is", f"{value} .", value)
