"""Whether a curve is U-shaped or monotone, or these runs cannot tell.

Simonsohn's two lines (2018, doi:10.1177/2515245918805755): a U needs a line that falls and, beyond a break, a line that
rises, each significantly. A quadratic fit calls most saturating curves a U, and a raw interior optimum is noise as
often as not. Ours: the break of each seed is found on the other seeds, so that it is never tested on the data that
chose it, and the slopes are tested over seeds, which are what varies.

Shapes: S paired seeds, X points of the grid.
"""

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from turnout.errors import RecipeError

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
