"""Student t intervals and tests of means over seeds, and the effects that so few seeds can detect.

Everything is two-sided at 5 %. Differences are paired by seed before they come here.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import nct, t

Floats = NDArray[np.float64]


def t_interval(values: Floats) -> tuple[float, float]:
    """95 % t interval of the mean of two values or more."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def p_value(values: Floats) -> float:
    """Two-sided p of a mean of 0; of equal values 1 if they are 0, else 0."""
    spread = values.std(ddof=1)
    if not spread:
        return float(values[0] == 0)
    return float(2 * t.sf(abs(values.mean()) / (spread / math.sqrt(len(values))), len(values) - 1))


def detectable(values: Floats, power: float = 0.8, step: float | None = None) -> float:
    """Least mean that a t test of so many values, of this standard deviation, finds with `power`.

    Args:
        values: at least two.
        power: probability of a p below 5 %.
        step: round up to a multiple of so many standard deviations.
    """
    n = len(values)
    least, most = 0.0, 50.0
    for _ in range(60):
        middle = (least + most) / 2
        reached = 1 - nct.cdf(t.ppf(0.975, n - 1), n - 1, middle * math.sqrt(n))
        least, most = (least, middle) if reached > power else (middle, most)
    return float((most if step is None else math.ceil(most / step) * step) * values.std(ddof=1))


def paired(values: Floats, step: float | None = None) -> dict[str, float]:
    """`mean`, `low`, `high`, `p` and `detectable` of differences; `step` as in `detectable`."""
    low, high = t_interval(values)
    found = {"mean": float(values.mean()), "low": low, "high": high, "p": p_value(values)}
    return found | {"detectable": detectable(values, step=step)}


def signed(mean: float, low: float | None, high: float | None) -> str:
    """A difference and its interval, with signs and four decimals; the difference alone without an interval."""
    return f"{mean:+.4f}" if low is None else f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def over_seeds(values: Sequence[float]) -> str:
    """Mean and t interval of one value a seed; a single value alone, and a dash for none."""
    if len(values) < 2:
        return " / ".join(f"{value:+.4f}" for value in values) or "–"
    return signed(float(np.mean(values)), *t_interval(np.asarray(values)))
