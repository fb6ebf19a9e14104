"""Statistics over paired seeds: t intervals, the two-lines test for a U, the optimum of a curve, gaps between losses.

Shapes: S paired seeds, X points of the grid, B resamples, R runs.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t
from sklearn.isotonic import IsotonicRegression

from turnout.errors import RecipeError

Verdict = Literal["U", "monotone", "cannot tell"]
FEWEST = 3
"""Least number of seeds for an interval or a verdict: seeds are what varies."""
LEVEL = 0.05
_ROUNDING = 1e-9


def interval(values: Iterable[float]) -> dict[str, Any]:
    """Mean with its 95 % Student interval.

    Returns:
        `n`, `mean` (None for no value), `low` and `high` (None below three values).
    """
    x = np.array(list(values), np.float64)
    if not len(x):
        return {"n": 0, "mean": None, "low": None, "high": None}
    mean = float(x.mean())
    if len(x) < FEWEST:
        return {"n": len(x), "mean": mean, "low": None, "high": None}
    half = float(t.ppf(0.975, len(x) - 1)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return {"n": len(x), "mean": mean, "low": mean - half, "high": mean + half}


def excludes_zero(bounds: Mapping[str, Any]) -> bool:
    """Whether both ends of an `interval` have one sign, by more than rounding."""
    return bounds["low"] is not None and (bounds["low"] > _ROUNDING or bounds["high"] < -_ROUNDING)


@dataclass(frozen=True)
class Slope:
    """Mean slope of a line over seeds.

    Attributes:
        mean: of the seeds' slopes, in y per unit of x.
        low: lower one-sided 95 % bound.
        high: upper one-sided 95 % bound.
        p: one-sided p-value of no slope in the direction of a U on this side.
    """

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class TwoLines:
    """Result of the two-lines test.

    Attributes:
        verdict: "U": left falls and right rises, both at 5 %. "monotone": left falls and the right line's upper bound
            is below the margin. Otherwise "cannot tell".
        left: the line up to the break.
        right: the line from the break on.
        breaks: the break of each seed, in x.
        margin: the slope that counts as no rise.
    """

    verdict: Verdict
    left: Slope
    right: Slope
    breaks: tuple[float, ...]
    margin: float

    def to_dict(self) -> dict[str, object]:
        """The result as a JSON object."""
        return asdict(self)


def two_lines(x_X: NDArray[np.floating], y_SX: NDArray[np.floating], margin: float) -> TwoLines:
    """Test for a U: y falls, then rises (Simonsohn 2018, doi:10.1177/2515245918805755). For an inverted U give −y.

    A U needs a line that falls and, beyond a break, a line that rises, each significantly. A quadratic fit calls most
    saturating curves a U, and an interior optimum alone is as often noise. Ours: the break of each seed is found on the
    other seeds, so that it is never tested on the data that chose it, and the slopes are tested over seeds.

    Args:
        x_X: points of the curve, ascending, at least four; for example log2 of the number of experts.
        y_SX: one curve a seed, at least three, all at the same points.
        margin: the slope, above 0, below which a rise does not matter; fix it beforehand.

    Raises:
        RecipeError: fewer than four points or three seeds, points that do not ascend, a value that is not finite.
    """
    x, y = np.asarray(x_X, np.float64), np.asarray(y_SX, np.float64)
    _check(x, y, margin)
    breaks = [_break(np.delete(y, seed, axis=0).mean(0)) for seed in range(len(y))]
    left = [np.polyfit(x[: at + 1], row[: at + 1], 1)[0] for at, row in zip(breaks, y, strict=True)]
    right = [np.polyfit(x[at:], row[at:], 1)[0] for at, row in zip(breaks, y, strict=True)]
    falls, rises = _slope(np.array(left), -1), _slope(np.array(right), 1)
    verdict: Verdict = "cannot tell"
    if falls.p < LEVEL and rises.p < LEVEL:
        verdict = "U"
    elif falls.p < LEVEL and rises.high < margin:
        verdict = "monotone"
    return TwoLines(verdict, falls, rises, tuple(float(x[at]) for at in breaks), margin)


def _break(mean_X: NDArray[np.float64]) -> int:
    """Index of the interior point where a mean curve is least."""
    return 1 + int(mean_X[1:-1].argmin())


def _slope(slopes_S: NDArray[np.float64], direction: int) -> Slope:
    """Student statistics of the seeds' slopes; `direction` is the sign of a U on this side."""
    n, mean = len(slopes_S), float(slopes_S.mean())
    error = float(slopes_S.std(ddof=1)) / math.sqrt(n)
    half = float(t.ppf(1 - LEVEL, n - 1)) * error
    toward = direction * mean
    p = float(t.sf(toward / error, n - 1)) if error else float(toward <= 0)
    return Slope(mean, mean - half, mean + half, p)


def _check(x: NDArray[np.float64], y: NDArray[np.float64], margin: float) -> None:
    if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x) or len(x) < 4 or len(y) < 3:
        expected = "at least three curves of the same points, four or more"
        raise RecipeError("two lines", expected=expected, received=f"points {x.shape}, curves {y.shape}")
    if not (np.diff(x) > 0).all():
        raise RecipeError("two lines", expected="points in ascending order", received=x.tolist())
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        do = "leave failed points out"
        raise RecipeError("two lines", expected="finite values", received="a NaN or infinity", do=do)
    if not margin > 0:
        raise RecipeError("margin", expected="a slope above 0", received=margin)


@dataclass(frozen=True)
class Optimum:
    """The point where y is least.

    Attributes:
        x: of the mean curve: the vertex of the parabola through the least point and its neighbors.
        low: 2.5 % quantile of the resamples.
        high: 97.5 % quantile of the resamples.
        at_edge: share of resamples whose least point is the first or last: the optimum may be outside the grid.
    """

    x: float
    low: float
    high: float
    at_edge: float

    def to_dict(self) -> dict[str, float]:
        """The optimum as a JSON object."""
        return asdict(self)


def optimum(x_X: NDArray[np.floating], y_SX: NDArray[np.floating], resamples: int = 2000, seed: int = 0) -> Optimum:
    """Least point of the mean curve, with a 95 % bootstrap interval over seeds; for the greatest point give −y.

    Args:
        x_X: ascending points, at least three.
        y_SX: one curve a seed, at least two.
        resamples: B.
        seed: of the resamples.

    Raises:
        RecipeError: too few points or curves, or curves of other points.
    """
    x, y = np.asarray(x_X, np.float64), np.asarray(y_SX, np.float64)
    if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x) or len(x) < 3 or len(y) < 2:
        expected = "two curves or more of three points or more"
        raise RecipeError("optimum", expected=expected, received=f"{x.shape}, {y.shape}")
    drawn_BS = np.random.default_rng(seed).integers(0, len(y), (resamples, len(y)))
    means_BX = y[drawn_BS].mean(1)
    vertices_B = np.array([_vertex(x, mean_X) for mean_X in means_BX])
    least_B = means_BX.argmin(1)
    low, high = np.quantile(vertices_B, [0.025, 0.975])
    at_edge = ((least_B == 0) | (least_B == len(x) - 1)).mean()
    return Optimum(_vertex(x, y.mean(0)), float(low), float(high), float(at_edge))


def _vertex(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    at = int(y.argmin())
    if at in (0, len(x) - 1):
        return float(x[at])
    a, b, _ = np.polyfit(x[at - 1 : at + 2] - x[at], y[at - 1 : at + 2], 2)
    return float(x[at] if a <= 0 else x[at] - b / (2 * a))


def generalization_gap(task_loss_R: NDArray[np.floating], training_loss_R: NDArray[np.floating]) -> NDArray[np.float64]:
    """Task loss − training loss [R], nats a token (named in arXiv 2508.18672; the formula is ours)."""
    return np.asarray(task_loss_R, np.float64) - np.asarray(training_loss_R, np.float64)


def loss_accuracy_gap(task_loss_R: NDArray[np.floating], accuracy_R: NDArray[np.floating]) -> NDArray[np.float64]:
    """Accuracy − its prediction from the task loss [R]; above 0: more accurate than other runs of that loss.

    The prediction is an isotonic fit (accuracy never rises with loss) on the same runs, so that the gaps are residuals
    and sum to about 0 (named in arXiv 2508.18672; the formula is ours).
    """
    loss, accuracy = np.asarray(task_loss_R, np.float64), np.asarray(accuracy_R, np.float64)
    fit = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(loss, accuracy)
    return accuracy - fit.predict(loss)
