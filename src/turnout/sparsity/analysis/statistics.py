"""Statistics over paired seeds: t intervals, two-lines test, optimum of a curve, gaps between losses."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t
from sklearn.isotonic import IsotonicRegression

from turnout.errors import RecipeError

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


Verdict = Literal["U", "monotone", "cannot tell"]
LEVEL = 0.05


@dataclass(frozen=True)
class Slope:
    """A line's mean slope over seeds.

    Attributes:
        mean: of the seeds' slopes, in y per unit of x.
        low: one-sided 95 % bound below.
        high: one-sided 95 % bound above.
        p: one-sided, of no slope in the direction that a U has there.
    """

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class TwoLines:
    """What the two lines say.

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
        """JSON values."""
        return asdict(self)


def two_lines(x_X: NDArray[np.floating], y_SX: NDArray[np.floating], margin: float) -> TwoLines:
    """Test for a U: y falls, then rises. For an upside-down U give −y.

    Args:
        x_X: where the curve was measured, ascending, at least four points (a logarithm of sparsity, say).
        y_SX: one curve a seed, at least three, all at the same points.
        margin: the slope, above 0, under which a rise does not matter; fix it before looking.

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
    """The interior point where the other seeds' mean curve is least."""
    return 1 + int(mean_X[1:-1].argmin())


def _slope(slopes_S: NDArray[np.float64], direction: int) -> Slope:
    """Student statistics of the seeds' slopes; `direction` is the sign that a U has there."""
    n, mean = len(slopes_S), float(slopes_S.mean())
    error = float(slopes_S.std(ddof=1)) / math.sqrt(n)
    half = float(t.ppf(1 - LEVEL, n - 1)) * error
    toward = direction * mean
    p = float(t.sf(toward / error, n - 1)) if error else float(toward <= 0)
    return Slope(mean, mean - half, mean + half, p)


def _check(x: NDArray[np.float64], y: NDArray[np.float64], margin: float) -> None:
    expected = "at least three curves of the same points, four or more"
    if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x) or len(x) < 4 or len(y) < 3:
        raise RecipeError("two lines", expected=expected, received=f"points {x.shape}, curves {y.shape}")
    if not (np.diff(x) > 0).all():
        raise RecipeError("two lines", expected="points in ascending order", received=x.tolist())
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise RecipeError(
            "two lines", expected="finite values", received="one that is not", do="leave failed points out"
        )
    if not margin > 0:
        raise RecipeError("margin", expected="a slope above 0", received=margin)


@dataclass(frozen=True)
class Optimum:
    """The point where y is least.

    Attributes:
        x: of the mean curve: the vertex of the parabola through the least point and its neighbours.
        low: 2.5 % of resamples lie below.
        high: 2.5 % of resamples lie above.
        at_edge: share of resamples whose least point is the grid's first or last: the optimum may lie outside.
    """

    x: float
    low: float
    high: float
    at_edge: float

    def to_dict(self) -> dict[str, float]:
        """JSON values."""
        return asdict(self)


def optimum(x_X: NDArray[np.floating], y_SX: NDArray[np.floating], resamples: int = 2000, seed: int = 0) -> Optimum:
    """Where the mean curve is least, with a 95 % bootstrap interval over seeds; for a greatest value give −y.

    Args:
        x_X: ascending points, at least three.
        y_SX: one curve a seed, at least two.
        resamples: B.
        seed: of the resamples.

    Raises:
        RecipeError: shapes that do not fit.
    """
    x, y = np.asarray(x_X, np.float64), np.asarray(y_SX, np.float64)
    if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x) or len(x) < 3 or len(y) < 2:
        raise RecipeError(
            "optimum", expected="two curves or more of three points or more", received=f"{x.shape}, {y.shape}"
        )
    drawn_BS = np.random.default_rng(seed).integers(0, len(y), (resamples, len(y)))
    means_BX = y[drawn_BS].mean(1)
    places = np.array([_vertex(x, mean_X) for mean_X in means_BX])
    least_B = means_BX.argmin(1)
    low, high = np.quantile(places, [0.025, 0.975])
    at_edge = ((least_B == 0) | (least_B == len(x) - 1)).mean()
    return Optimum(_vertex(x, y.mean(0)), float(low), float(high), float(at_edge))


def _vertex(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    at = int(y.argmin())
    if at in (0, len(x) - 1):
        return float(x[at])
    a, b, _ = np.polyfit(x[at - 1 : at + 2] - x[at], y[at - 1 : at + 2], 2)
    return float(x[at] if a <= 0 else x[at] - b / (2 * a))


def generalisation_gap(task_loss_R: NDArray[np.floating], training_loss_R: NDArray[np.floating]) -> NDArray[np.float64]:
    """Task loss − training loss, nats a token, run by run."""
    return np.asarray(task_loss_R, np.float64) - np.asarray(training_loss_R, np.float64)


def loss_accuracy_gap(task_loss_R: NDArray[np.floating], accuracy_R: NDArray[np.floating]) -> NDArray[np.float64]:
    """Accuracy − what the family's falling fit predicts from the task loss; above 0: more accurate than its loss says.

    The fit is isotonic (accuracy never rises with loss), made on the same runs: residuals, which sum to about 0.
    """
    loss, accuracy = np.asarray(task_loss_R, np.float64), np.asarray(accuracy_R, np.float64)
    fit = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(loss, accuracy)
    return accuracy - fit.predict(loss)
