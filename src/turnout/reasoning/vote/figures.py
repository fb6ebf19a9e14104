"""pass@1, pass@n and majority votes from sampled answers, with intervals over problems.

Shapes: P problems, N samples of each, K sizes of a vote.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout import ops


def figures(
    said_PN: Sequence[Sequence[str | None]],
    gold_P: Sequence[str],
    sizes: Sequence[int],
    *,
    subsets: int,
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """One row a size: `samples`, `pass` (unbiased), `majority` (mean over random subsets), each with a 95 % interval.

    A majority of all samples needs no subsets. Intervals are percentiles of resampled problems.
    """
    rng = np.random.default_rng(seed)
    n = len(said_PN[0])
    right_P = [sum(answer == gold for answer in said) for said, gold in zip(said_PN, gold_P, strict=True)]
    drawn = rng.integers(0, len(gold_P), (resamples, len(gold_P)))
    rows = []
    for size in sizes:
        passed = np.array([ops.pass_at_k(n, right, size) for right in right_P])
        voted = np.array([_voted(said, gold, size, subsets, rng) for said, gold in zip(said_PN, gold_P, strict=True)])
        row: dict[str, Any] = {"samples": size}
        for name, values in (("pass", passed), ("majority", voted)):
            row[name] = float(values.mean())
            row[f"{name}_interval"] = np.quantile(values[drawn].mean(1), [0.025, 0.975]).tolist()
        rows.append(row)
    return rows


def _voted(said_N: Sequence[str | None], gold: str, size: int, subsets: int, rng: np.random.Generator) -> float:
    if size == len(said_N):
        return ops.majority(said_N, gold)
    if size == 1:
        return sum(answer == gold for answer in said_N) / len(said_N)
    picks: NDArray[np.int64] = rng.random((subsets, len(said_N))).argsort(1)[:, :size]
    return sum(ops.majority([said_N[i] for i in pick], gold) for pick in picks) / subsets
