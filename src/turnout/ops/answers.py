"""Scores of sampled answers: pass@k and majority votes."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from turnout.ops._inputs import refuse


def pass_at_k(n: int, correct: int, k: int) -> float:
    """pass@k: the chance that one of `k` answers is right, from `n` samples with c = `correct`: 1 − C(n−c, k)/C(n, k).

    The unbiased estimator of Chen et al. (arXiv 2107.03374, equation 1): the mean over all subsets of k.

    Args:
        n: sampled answers, at least 1.
        correct: right answers among them.
        k: 1 to n.

    Raises:
        ValueError: k or correct out of range.
    """
    if not 1 <= k <= n:
        refuse("k", f"1 to {n}", k)
    if not 0 <= correct <= n:
        refuse("correct", f"0 to {n}", correct)
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def majority(votes: Sequence[Hashable | None], gold: Hashable) -> float:
    """Credit of a majority vote: 1 if `gold` has the most votes, 1/t if t answers share the most, 0 otherwise.

    Self-consistency (Wang et al., arXiv 2203.11171). None is an unreadable answer, which casts no vote. The shared
    credit is the mean credit of a tie broken at random.
    """
    counts = Counter(vote for vote in votes if vote is not None)
    if not counts:
        return 0.0
    largest = max(counts.values())
    winners = [answer for answer, n in counts.items() if n == largest]
    return 1.0 / len(winners) if gold in winners else 0.0
