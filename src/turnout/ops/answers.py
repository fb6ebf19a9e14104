"""Scores of sampled answers: pass@k and majority votes."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from turnout.ops._inputs import refuse


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that one of `k` answers is right, of `n` sampled ones of which `correct` are: 1 − C(n−c, k)/C(n, k).

    The unbiased estimator of Chen et al. (arXiv 2107.03374, equation 1), which every subset of k counts in equally.

    Args:
        n: sampled answers, at least 1.
        correct: right ones among them.
        k: 1 to n.
    """
    if not 1 <= k <= n:
        refuse("k", f"1 to {n}", k)
    if not 0 <= correct <= n:
        refuse("correct", f"0 to {n}", correct)
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def majority(votes: Sequence[Hashable | None], gold: Hashable) -> float:
    """Credit of a majority vote: 1 if `gold` has the most votes, 1/t if t answers share the most, 0 otherwise.

    Self-consistency (Wang et al., arXiv 2203.11171). None is an answer that could not be read: it casts no vote. The
    shared credit is what a tie broken at random earns on average.
    """
    counts = Counter(vote for vote in votes if vote is not None)
    if not counts:
        return 0.0
    most = max(counts.values())
    winners = [answer for answer, n in counts.items() if n == most]
    return 1.0 / len(winners) if gold in winners else 0.0
