from collections import Counter
from collections.abc import Hashable, Sequence


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
