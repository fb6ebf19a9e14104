"""Where a curve is best, with an interval from resampled seeds.

Shapes: S paired seeds, X points of the grid, B resamples.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.errors import RecipeError


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
