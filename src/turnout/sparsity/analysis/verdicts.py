"""Verdict on one curve of one measure along the number of experts: its shape, its best point, and a sentence.

The question is whether the sparsest model is the best one. A *U* in the loss means no: more experts help up to a point
and harm beyond it. *Monotone* means yes within the grid, up to a margin fixed beforehand. All else is *cannot tell*.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.sparsity.analysis.shapes import Shape, paired_values
from turnout.sparsity.analysis.statistics import FEWEST, Slope, TwoLines, optimum, two_lines

SIGNS = {"loss": 1, "accuracy": -1}
"""Tested measures, with the direction that is worse."""
NAMES = {"loss": "task loss", "accuracy": "accuracy"}
FEWEST_POINTS = 4
_FLOOR, _CEILING = 0.05, 0.95


def verdict(curve: Sequence[Shape], task: str, measure: str, share: float) -> dict[str, Any]:
    """Two lines and optimum of `measure` over log2 of the experts.

    Args:
        curve: shapes that differ in the number of experts, ascending.
        task: name of the task.
        measure: "loss" or "accuracy".
        share: the margin: the rise per doubling, as a share of the mean curve's range, below which it does not matter.

    Returns:
        `verdict` ("U", "monotone", "cannot tell"; None with `reason` if no test is possible), `better` ("sparser" or
        "denser" if monotone), `sentence`, the slopes `left` and `right` per doubling in the measure's own unit, each
        with one-sided 95 % bounds, `breaks` (experts, one a seed), `margin`, and `optimum` in experts, or None.
    """
    points, seeds, y = paired_values(curve, task, measure)
    experts = [shape.trial["experts"] for shape in points]
    n_left_out = len({seed for shape in curve for seed in shape.of(task, measure)}) - len(seeds)
    result: dict[str, Any] = {
        "task": task,
        "measure": measure,
        "experts": experts,
        "seeds": seeds,
        "seeds_left_out": n_left_out,
    }
    result |= {"points_left_out": [shape.trial["experts"] for shape in curve if shape not in points]}
    result |= {"verdict": None, "better": None, "left": None, "right": None, "breaks": [], "margin": None}
    x, worse = np.log2(np.array(experts, np.float64)), SIGNS[measure] * y
    result["optimum"] = _optimum(x, worse)
    result["caution"] = _caution(y) if measure == "accuracy" else None
    result["reason"] = _why_untested(experts, y)
    if result["reason"] is None:
        result |= _tested(x, worse, share, SIGNS[measure])
    return result | {"sentence": _sentence(result)}


def _why_untested(experts: Sequence[int], y_SX: NDArray[np.float64]) -> str | None:
    if len(y_SX) < FEWEST:
        return f"no verdict from {len(y_SX)} complete seeds: it needs {FEWEST} at least, and five to find a U"
    if len(experts) < FEWEST_POINTS:
        return f"no verdict from {len(experts)} numbers of experts: it needs {FEWEST_POINTS} at least"
    if np.ptp(y_SX.mean(0)) == 0:
        return "no verdict: the mean is the same at every number of experts"
    return None


def _tested(x: NDArray[np.float64], worse_SX: NDArray[np.float64], share: float, sign: int) -> dict[str, Any]:
    margin = share * float(np.ptp(worse_SX.mean(0)))
    lines, better = two_lines(x, worse_SX, margin), "sparser"
    if lines.verdict == "cannot tell":  # it may be monotone in the other direction
        reverse = two_lines(-x[::-1], worse_SX[:, ::-1], margin)
        if reverse.verdict == "monotone":
            lines, better = _reversed(reverse), "denser"
    return {
        "verdict": lines.verdict,
        "better": better if lines.verdict == "monotone" else None,
        "left": _slope(lines.left, sign),
        "right": _slope(lines.right, sign),
        "breaks": [float(2.0**at) for at in lines.breaks],
        "margin": margin,
    }


def _reversed(lines: TwoLines) -> TwoLines:
    """Lines along −x as lines along x; p remains that of the test along −x."""
    left, right = (Slope(-s.mean, -s.high, -s.low, s.p) for s in (lines.right, lines.left))
    return TwoLines(lines.verdict, left, right, tuple(-at for at in lines.breaks), lines.margin)


def _slope(slope: Slope, sign: int) -> dict[str, float]:
    """Slope of the measure itself, from that of its worse direction."""
    ends = sorted((sign * slope.low, sign * slope.high))
    return {"mean": sign * slope.mean, "low": ends[0], "high": ends[1], "p": slope.p}


def _optimum(x: NDArray[np.float64], worse_SX: NDArray[np.float64]) -> dict[str, float] | None:
    """Best number of experts, with its interval."""
    if len(x) < 3 or len(worse_SX) < FEWEST:
        return None
    best = optimum(x, worse_SX)
    return {"experts": 2**best.x, "low": 2**best.low, "high": 2**best.high, "at_edge": best.at_edge}


def _caution(accuracy_SX: NDArray[np.float64]) -> str | None:
    """Caution about accuracies near floor or ceiling in the middle of the grid, where a curve has little room."""
    if not accuracy_SX.size:
        return None
    middle = float(accuracy_SX.mean(0)[accuracy_SX.shape[1] // 2])
    if _FLOOR < middle < _CEILING:
        return None
    return f"accuracy is {middle:.1%} in the middle of the grid, near its {'floor' if middle < 0.5 else 'ceiling'}"


def _sentence(result: dict[str, Any]) -> str:
    what = f"{result['task']}, {NAMES[result['measure']]}"
    if result["reason"] is not None:
        return f"{what}: {result['reason']}."
    verdict_words = {"U": _u, "monotone": _monotone, "cannot tell": _cannot_tell}[result["verdict"]](result)
    return f"{what}: {verdict_words}." + (f" But {result['caution']}." if result["caution"] else "")


def _u(result: dict[str, Any]) -> str:
    turn = float(np.median(result["breaks"]))
    first, then = ("falls", "rises") if result["measure"] == "loss" else ("rises", "falls")
    return f"{first} up to about {turn:g} experts and {then} beyond; the sparsest model is not the best here"


def _monotone(result: dict[str, Any]) -> str:
    most = f"a turn back is below {abs(result['margin']):.2g} a doubling"
    return f"{result['better']} is better over the whole grid; {most}"


def _cannot_tell(result: dict[str, Any]) -> str:
    sign, margin = SIGNS[result["measure"]], result["margin"]
    if result["left"]["p"] >= 0.05:
        missing = f"the first part does not improve significantly (p {result['left']['p']:.2f})"
    else:
        bound = result["right"]["high"] if sign > 0 else -result["right"]["low"]
        missing = (
            f"beyond the break neither a turn back (p {result['right']['p']:.2f}) nor its absence (it may be up to "
            f"{bound:.2g} a doubling, the margin is {margin:.2g}) is shown"
        )
    return f"these runs cannot tell a U from a monotone curve: {missing}"
