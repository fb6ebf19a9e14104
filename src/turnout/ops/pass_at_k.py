import math

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
