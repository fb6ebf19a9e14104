"""Interpolated modified Kneser–Ney over tokens: the n-gram baseline of the embedded model.

Chen & Goodman 1998 (TR-10-98), section 3: the highest order counts occurrences, each lower order the different tokens
before an n-gram; three discounts per order, for counts of 1, 2 and more; the lowest order backs off to the uniform
distribution.

Shapes: T tokens, G different n-grams, C different contexts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Order:
    """Counts of one order. A key is an n-gram as one integer in base V; keys are ascending."""

    length: int
    keys_G: Ints
    kept_G: Floats
    contexts_C: Ints
    total_C: Floats
    backoff_C: Floats


class KneserNey:
    """An n-gram model of integer tokens 0…V−1.

    Args:
        tokens: the training tokens, one sequence [T].
        vocabulary: V; every token has a probability above 0.
        order: n; 1 is a unigram model of occurrence counts, 3 predicts from the two previous tokens.
        discounts: the three discounts of every order; None estimates them from each order's counts of counts.

    Raises:
        ValueError: fewer tokens than the order, a token outside the vocabulary, or keys that do not fit 63 bits.
    """

    def __init__(
        self,
        tokens: NDArray[np.integer],
        vocabulary: int,
        order: int,
        discounts: tuple[float, float, float] | None = None,
    ) -> None:
        if len(tokens) < order or int(tokens.max()) >= vocabulary or vocabulary**order >= 2**63:
            received = f"{len(tokens)} tokens up to {tokens.max(initial=-1)}, order {order}"
            raise ValueError(f"expected at least `order` tokens below {vocabulary} and keys below 2^63, got {received}")
        self.vocabulary, self.order = vocabulary, order
        keys, counts = np.unique(_keys(tokens, vocabulary, order), return_counts=True)
        self._orders = [_count(keys, counts, vocabulary, order, discounts)]
        for length in range(order - 1, 0, -1):
            keys, counts = np.unique(keys % vocabulary**length, return_counts=True)
            self._orders.insert(0, _count(keys, counts, vocabulary, length, discounts))

    def probabilities(self, tokens: NDArray[np.integer]) -> Floats:
        """Probability of each token given the n−1 tokens before it, [T]; the first tokens have shorter contexts."""
        p_T = np.full(len(tokens), 1 / self.vocabulary)
        for order in self._orders:
            n_first = order.length - 1
            if len(tokens) > n_first:
                keys = _keys(tokens, self.vocabulary, order.length)
                p_T[n_first:] = _interpolate(order, keys, keys // self.vocabulary, p_T[n_first:])
        return p_T

    def bits(self, tokens: NDArray[np.integer]) -> Floats:
        """−log2 p of each token, [T]."""
        return -np.log2(self.probabilities(tokens))


def _keys(tokens: NDArray[np.integer], vocabulary: int, length: int) -> Ints:
    """Each n-gram of the sequence as one integer, [T − n + 1]."""
    n = len(tokens) - length + 1
    keys = np.zeros(n, np.int64)
    for i in range(length):
        keys = keys * vocabulary + tokens[i : i + n]
    return keys


def _count(
    keys: Ints, counts: Ints, vocabulary: int, length: int, discounts: tuple[float, float, float] | None
) -> _Order:
    discount = np.array([0.0, *(discounts or _discounts(counts))])
    less_G = discount[np.minimum(counts, 3)]
    contexts_C, inverse = np.unique(keys // vocabulary, return_inverse=True)
    total_C = np.bincount(inverse, counts).astype(np.float64)
    return _Order(length, keys, counts - less_G, contexts_C, total_C, np.bincount(inverse, less_G) / total_C)


def _discounts(counts: Ints) -> tuple[float, float, float]:
    """D1, D2, D3+ (Chen & Goodman, equation 26); 0.5 each where a count of counts is 0."""
    n = np.bincount(np.minimum(counts, 5), minlength=5)[:5].astype(float)
    if not n[1:].all():
        return (0.5, 0.5, 0.5)
    y = n[1] / (n[1] + 2 * n[2])
    first, second, third = (float(np.clip(i - (i + 1) * y * n[i + 1] / n[i], 0, i)) for i in (1, 2, 3))
    return first, second, third


def _interpolate(order: _Order, keys: Ints, contexts: Ints, lower: Floats) -> Floats:
    """Discounted probability of this order, plus the discounted mass times the lower order's probability."""
    at, known = _find(order.contexts_C, contexts)
    hit, seen = _find(order.keys_G, keys)
    kept = np.where(seen, order.kept_G[hit], 0.0)
    return np.where(known, kept / order.total_C[at] + order.backoff_C[at] * lower, lower)


def _find(ascending: Ints, wanted: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Index of each wanted key, and whether it exists."""
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return at, ascending[at] == wanted
