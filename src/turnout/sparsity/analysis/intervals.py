"""Means over seeds with Student intervals; seeds are what varies, so fewer than three give no interval."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.stats import t

FEWEST = 3
"""Seeds below which nothing is concluded."""
_ROUNDING = 1e-9


def interval(values: Iterable[float]) -> dict[str, Any]:
    """`n`, `mean`, and the 95 % t interval `low`, `high` (None below three values; `mean` None for no value)."""
    x = np.array(list(values), np.float64)
    if not len(x):
        return {"n": 0, "mean": None, "low": None, "high": None}
    mean = float(x.mean())
    if len(x) < FEWEST:
        return {"n": len(x), "mean": mean, "low": None, "high": None}
    half = float(t.ppf(0.975, len(x) - 1)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return {"n": len(x), "mean": mean, "low": mean - half, "high": mean + half}


def excludes_zero(found: dict[str, Any]) -> bool:
    """Whether an `interval` lies on one side of 0, by more than rounding."""
    return found["low"] is not None and (found["low"] > _ROUNDING or found["high"] < -_ROUNDING)
