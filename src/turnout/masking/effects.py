"""Cost of masking a set beyond the prediction from equal gate mass of the periphery. Ours; docs/methods/masking.md.

The prediction is an isotonic regression of the drop on the removed mass over random periphery sets of many sizes: that
removing more cannot cost less, on average, is all it supposes. A straight line through the origin would bend the
answer: where drops grow faster than the removed mass it lies too low at the large masses of committees, and any heavy
set would seem special.

Shapes: S questions, N sets (the first masks nothing), R resamples, C control sets that the curve is fitted to.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.auditing.evidence.bootstrap import Clusters, resample
from turnout.masking.sets import MaskSet, Target

RESAMPLES = 1000
CURVE_KINDS = ("random", "matched", "curve")
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measure:
    """One figure of the model under each set: Σ value / Σ weight over questions.

    Args:
        name: accuracy, logprob, generated or bits_per_byte.
        value_SN: each question's value under each set.
        weight_S: 1, or a text's bytes.
        clusters: the questions' domains and subjects.
        worse: +1 if larger is worse, −1 if smaller is.
    """

    name: str
    value_SN: Floats
    weight_S: Floats
    clusters: Clusters
    worse: int

    def under(self, counts_RS: NDArray[np.int32]) -> Floats:
        """[R, N]: the figure in each resample."""
        drawn_RS = counts_RS.astype(np.float64)
        return (drawn_RS @ self.value_SN) / (drawn_RS @ self.weight_S)[:, None]

    def drops(self, counts_RS: NDArray[np.int32]) -> Floats:
        """[R, N]: by how much each set makes the figure worse than without a mask."""
        value_RN = self.under(counts_RS)
        return self.worse * (value_RN - value_RN[:, :1]) + 0.0  # no −0.0


def effects(target: Target, measure: Measure, seed: int, n: int = RESAMPLES) -> dict[str, dict[str, Any]]:
    """Committee and core set, by kind: drop, its interval, the controls' drops, the predicted drop and the effect.

    Intervals are the middle 95 % of `n` resamples of questions (subjects where there are ten in each domain), the same
    for every set, and, for the effect, of the control sets too, each kind on its own: the curve is fitted anew each
    time. Controls of equal size or mass stand beside the set that they were made for.
    """
    rng = np.random.default_rng(seed)
    drawn_RS = resample(measure.clusters, n, rng)
    counts_RS = np.concatenate([np.ones((1, drawn_RS.shape[1]), np.int32), drawn_RS])
    drop_RN = measure.drops(counts_RS)
    curve_C = np.array([j for j, s in enumerate(target.sets) if s.kind in CURVE_KINDS], np.int64)
    mass_C = np.array([target.mass(target.sets[j]) for j in curve_C])
    weight_RC = _set_weights([target.sets[j].kind for j in curve_C], n, rng)
    level = measure.clusters.overall_level()
    result: dict[str, dict[str, Any]] = {}
    for j, masked in enumerate(target.sets):
        if masked.kind in ("committee", "core"):
            predicted_R = isotonic_at(mass_C, drop_RN[:, curve_C], weight_RC, target.mass(masked))
            result[masked.kind] = {
                "drop": float(drop_RN[0, j]),
                "interval": _interval(drop_RN[1:, j]),
                "predicted": _number(predicted_R[0]),
                "effect": _number(drop_RN[0, j] - predicted_R[0]),
                "effect_interval": _interval(drop_RN[1:, j] - predicted_R[1:]),
                "extrapolated": bool(len(mass_C) == 0 or target.mass(masked) > mass_C.max() + 1e-12),
                "level": level,
                **(_controls(target.sets, drop_RN[0], j) if j == 1 else {}),
            }
    return result


def isotonic_at(mass_C: Floats, drop_RC: Floats, weight_RC: Floats, at: float) -> Floats:
    """[R]: the isotonic regression of drops on masses, at the mass `at`; NaN without a point.

    Weighted least squares among the curves that do not fall, by its max–min formula; straight between neighbouring
    masses, from the origin below the least and level above the largest.
    """
    if len(mass_C) == 0:
        return np.full(len(drop_RC), np.nan)
    mass_U, place_C = np.unique(mass_C, return_inverse=True)
    pooled = np.eye(len(mass_U))[place_C]
    weight_RU, total_RU = weight_RC @ pooled, (weight_RC * drop_RC) @ pooled
    above = int(np.searchsorted(mass_U, at, side="right"))
    if above == 0:
        return _fit(weight_RU, total_RU, 0) * (at / mass_U[0])
    low_R = _fit(weight_RU, total_RU, above - 1)
    if above == len(mass_U):
        return low_R
    share = (at - mass_U[above - 1]) / (mass_U[above] - mass_U[above - 1])
    return (1 - share) * low_R + share * _fit(weight_RU, total_RU, above)


def _fit(weight_RU: Floats, total_RU: Floats, i: int) -> Floats:
    """The max over a ≤ i of min over b ≥ i of the mean of points a…b; stretches without weight are passed over."""
    weight, total = (np.pad(x.cumsum(1), ((0, 0), (1, 0))) for x in (weight_RU, total_RU))
    held_RAB = weight[:, None, i + 1 :] - weight[:, : i + 1, None]
    sum_RAB = total[:, None, i + 1 :] - total[:, : i + 1, None]
    mean_RAB = np.divide(sum_RAB, held_RAB, out=np.full_like(sum_RAB, np.inf), where=held_RAB > 1e-9)
    least_RA = mean_RAB.min(2)
    return np.where(np.isinf(least_RA), -np.inf, least_RA).max(1)


def _set_weights(kinds: list[str], n: int, rng: np.random.Generator) -> Floats:
    """[1 + R, C]: ones, then how often each control set is drawn, each kind as many times as it has sets."""
    weight_RC = np.ones((n + 1, len(kinds)))
    for kind in dict.fromkeys(kinds):
        of_kind = np.flatnonzero([k == kind for k in kinds])
        weight_RC[1:, of_kind] = rng.multinomial(len(of_kind), np.full(len(of_kind), 1 / len(of_kind)), size=n)
    return weight_RC


def _controls(sets: tuple[MaskSet, ...], drop_N: Floats, j: int) -> dict[str, Any]:
    """The controls' drops beside the set's own; p: how often a control costs as much, the set itself counted."""
    result: dict[str, Any] = {}
    for kind in ("random", "matched"):
        drops = drop_N[[i for i, s in enumerate(sets) if s.kind == kind]]
        result[kind] = {
            "sets": len(drops),
            "mean_drop": float(drops.mean()) if len(drops) else None,
            "q05": float(np.quantile(drops, 0.05)) if len(drops) else None,
            "q95": float(np.quantile(drops, 0.95)) if len(drops) else None,
            "p": (1 + int((drops >= drop_N[j] - 1e-12).sum())) / (1 + len(drops)) if len(drops) else None,
        }
    least = [float(drop_N[i]) for i, s in enumerate(sets) if s.kind == "least"]
    return result | {"least_drop": least[0] if least else None}


def _interval(values_R: Floats) -> list[float] | None:
    if not np.isfinite(values_R).all():
        return None
    low, high = np.quantile(values_R, [0.025, 0.975]).tolist()
    return [low, high]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
