"""One curve of one measure along the number of experts: its shape, its best point, and what that means.

The field's question is whether the sparsest model is the best one. A *U* in the loss says no: more experts help up to a
point and harm beyond it. *Monotone* says yes within the grid, up to a margin fixed beforehand. All else is *cannot
tell*.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.sparsity.analysis.shapes import Shape, paired_values
from turnout.sparsity.analysis.statistics import FEWEST, Slope, TwoLines, optimum, two_lines

SIGNS = {"loss": 1, "accuracy": -1}
"""Tested measures: which way is worse."""
NAMES = {"loss": "task loss", "accuracy": "accuracy"}
FEWEST_POINTS = 4
_FLOOR, _CEILING = 0.05, 0.95


def verdict(curve: Sequence[Shape], task: str, measure: str, share: float) -> dict[str, Any]:
    """Two lines and optimum of `measure` over log2 of the experts.

    Args:
        curve: shapes that differ in the number of experts, ascending.
        task: what was asked.
        measure: "loss" or "accuracy".
        share: the margin: the rise per doubling, as a share of the mean curve's range, that does not matter.

    Returns:
        `verdict` ("U", "monotone", "cannot tell"; None with `reason` where no test is possible), `better` ("sparser" or
        "denser" where monotone), `sentence`, the slopes `left` and `right` per doubling in the measure's own unit, each
        with one-sided 95 % bounds, `breaks` (experts, one a seed), `margin`, and `optimum` in experts, or None.
    """
    points, seeds, y = paired_values(curve, task, measure)
    experts = [shape.trial["experts"] for shape in points]
    lost = len({seed for shape in curve for seed in shape.of(task, measure)}) - len(seeds)
    made: dict[str, Any] = {
        "task": task,
        "measure": measure,
        "experts": experts,
        "seeds": seeds,
        "seeds_left_out": lost,
    }
    made |= {"points_left_out": [shape.trial["experts"] for shape in curve if shape not in points]}
    made |= {"verdict": None, "better": None, "left": None, "right": None, "breaks": [], "margin": None}
    x, worse = np.log2(np.array(experts, np.float64)), SIGNS[measure] * y
    made["optimum"] = _optimum(x, worse)
    made["caution"] = _caution(y) if measure == "accuracy" else None
    made["reason"] = _why_not(experts, y)
    if made["reason"] is None:
        made |= _tested(x, worse, share, SIGNS[measure])
    return made | {"sentence": _sentence(made)}


def _why_not(experts: Sequence[int], y_SX: NDArray[np.float64]) -> str | None:
    if len(y_SX) < FEWEST:
        return f"no verdict from {len(y_SX)} complete seeds: it needs {FEWEST} at least, and five to find a U"
    if len(experts) < FEWEST_POINTS:
        return f"no verdict from {len(experts)} numbers of experts: it needs {FEWEST_POINTS} at least"
    if np.ptp(y_SX.mean(0)) == 0:
        return "no verdict: the mean is the same at every number of experts"
    return None


def _tested(x: NDArray[np.float64], worse_SX: NDArray[np.float64], share: float, sign: int) -> dict[str, Any]:
    margin = share * float(np.ptp(worse_SX.mean(0)))
    found, better = two_lines(x, worse_SX, margin), "sparser"
    if found.verdict == "cannot tell":  # towards denser models it may fall as clearly
        back = two_lines(-x[::-1], worse_SX[:, ::-1], margin)
        if back.verdict == "monotone":
            found, better = _turned(back), "denser"
    return {
        "verdict": found.verdict,
        "better": better if found.verdict == "monotone" else None,
        "left": _slope(found.left, sign),
        "right": _slope(found.right, sign),
        "breaks": [float(2.0**at) for at in found.breaks],
        "margin": margin,
    }


def _turned(found: TwoLines) -> TwoLines:
    """Lines found along −x as lines along x; p is still that of the test that was made."""
    left, right = (Slope(-s.mean, -s.high, -s.low, s.p) for s in (found.right, found.left))
    return TwoLines(found.verdict, left, right, tuple(-at for at in found.breaks), found.margin)


def _slope(slope: Slope, sign: int) -> dict[str, float]:
    """The slope of the measure itself, not of what is worse."""
    ends = sorted((sign * slope.low, sign * slope.high))
    return {"mean": sign * slope.mean, "low": ends[0], "high": ends[1], "p": slope.p}


def _optimum(x: NDArray[np.float64], worse_SX: NDArray[np.float64]) -> dict[str, float] | None:
    """Where it is best, in experts."""
    if len(x) < 3 or len(worse_SX) < FEWEST:
        return None
    found = optimum(x, worse_SX)
    return {"experts": 2**found.x, "low": 2**found.low, "high": 2**found.high, "at_edge": found.at_edge}


def _caution(accuracy_SX: NDArray[np.float64]) -> str | None:
    """Near floor or ceiling in the middle of the grid a curve of accuracies has little room for any shape."""
    if not accuracy_SX.size:
        return None
    middle = float(accuracy_SX.mean(0)[accuracy_SX.shape[1] // 2])
    if _FLOOR < middle < _CEILING:
        return None
    return f"accuracy is {middle:.1%} in the middle of the grid, near its {'floor' if middle < 0.5 else 'ceiling'}"


def _sentence(made: dict[str, Any]) -> str:
    what = f"{made['task']}, {NAMES[made['measure']]}"
    if made["reason"] is not None:
        return f"{what}: {made['reason']}."
    said = {"U": _u, "monotone": _monotone, "cannot tell": _cannot_tell}[made["verdict"]](made)
    return f"{what}: {said}." + (f" But {made['caution']}." if made["caution"] else "")


def _u(made: dict[str, Any]) -> str:
    turn = float(np.median(made["breaks"]))
    first, then = ("falls", "rises") if made["measure"] == "loss" else ("rises", "falls")
    return f"{first} up to about {turn:g} experts and {then} beyond; the sparsest model is not the best here"


def _monotone(made: dict[str, Any]) -> str:
    most = f"a turn back is below {abs(made['margin']):.2g} a doubling"
    return f"{made['better']} is better over the whole grid; {most}"


def _cannot_tell(made: dict[str, Any]) -> str:
    sign, margin = SIGNS[made["measure"]], made["margin"]
    if made["left"]["p"] >= 0.05:
        missing = f"the first part does not improve significantly (p {made['left']['p']:.2f})"
    else:
        bound = made["right"]["high"] if sign > 0 else -made["right"]["low"]
        missing = (
            f"beyond the break neither a turn back (p {made['right']['p']:.2f}) nor its absence (it may be up to "
            f"{bound:.2g} a doubling, the margin is {margin:.2g}) is shown"
        )
    return f"these runs cannot tell a U from a monotone curve: {missing}"
