"""Effect of one change, all else equal: differences paired by seed, with Student intervals.

Equal training loss is reached by interpolation. Two families of shapes, for example the same numbers of experts with
two learning rates, give two curves of a measure over training loss; their mean difference over the losses that both
have is one number a seed. Ours: the paper (arXiv 2508.18672) compares single runs of similar loss.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from turnout.sparsity.analysis.shapes import AUDIT, AUDITED, NEARLY, TRAINING, Shape, curve_names, paired_values
from turnout.sparsity.analysis.statistics import FEWEST, excludes_zero, interval

MEASURES = ("loss", "accuracy")
_WORSE = {"loss": 1, "accuracy": -1}
_STEPS = 9  # training losses at which two families are compared
_FEWEST_SHAPES = 3  # of a family that is interpolated
_SAME_LOSS = ("learning_rate", "initializer_range", "budget")


def effects(shapes: Sequence[Shape], curves: Sequence[Sequence[Shape]], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """All contrasts of the grid: `top_k`, `dense`; at equal training loss also learning rate, initialization, budget.

    Returns:
        One dict a (contrast, task, measure): `effect`, `contrast` (in words: first − second), `difference`, `low`,
        `high`, `n` seeds, `verdict` on the first against the second ("better", "worse", "cannot tell"; None with fewer
        than three seeds) and `reason` (why there is no verdict).
    """
    return [*_of_top_k(shapes, tasks), *_of_dense(shapes, tasks), *_at_equal_loss(curves, tasks)]


def audit_slopes(curves: Sequence[Sequence[Shape]]) -> list[dict[str, Any]]:
    """Change of audit measures per doubling of the experts: the mean of the seeds' least-squares slopes.

    A slope alone is no evidence of stronger committees: all three measures depend on the number of experts by
    themselves.
    """
    rows = []
    for at, curve in enumerate(curves):
        for measure in AUDITED:
            points, seeds, y = paired_values(curve, AUDIT, measure)
            if not points:
                continue
            x = np.log2([shape.trial["experts"] for shape in points])
            slopes = [float(np.polyfit(x, row, 1)[0]) for row in y] if len(points) > 1 else []
            rows.append({"curve": at, "measure": measure, "seeds": seeds, **_judged(slopes, ("rises", "falls"))})
    return rows


def _of_top_k(shapes: Sequence[Shape], tasks: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Successive K at equal TPP, with the same experts, so that only the number of chosen ones differs."""
    keys = ("experts", "expert_width")
    for shape in shapes:
        larger = [
            other
            for other in shapes
            if other.trial["top_k"] > shape.trial["top_k"]
            and other.same(shape)
            and all(other.trial[key] == shape.trial[key] for key in keys)
            and abs(other.trial["tpp"] / shape.trial["tpp"] - 1) <= NEARLY
        ]
        if larger and not shape.trial["dense"]:
            first = min(larger, key=lambda other: other.trial["top_k"])
            k = f"K {first.trial['top_k']} − K {shape.trial['top_k']}"
            words = f"{k} at {_experts(shape)}, width {shape.trial['hidden_size']}, TPP {shape.trial['tpp']:.3g}"
            yield from _paired("top_k", words, first, shape, tasks)


def _of_dense(shapes: Sequence[Shape], tasks: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Each MoE compared with the dense model of its active budget."""
    for dense in (shape for shape in shapes if shape.trial["dense"]):
        for moe in shapes:
            if not moe.trial["dense"] and moe.budget == dense.budget and moe.same(dense):
                words = f"{_experts(moe)}, K {moe.trial['top_k']} − dense, width {moe.trial['hidden_size']}"
                yield from _paired("dense", words, moe, dense, tasks)


def _at_equal_loss(curves: Sequence[Sequence[Shape]], tasks: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Families that differ in learning rate alone, in initialization alone, or in active budget alone."""
    for effect in _SAME_LOSS:
        for one, other in _successive(curves, effect):
            words = _contrast(one, other, effect)
            for task in tasks:
                for measure in MEASURES:
                    named = {"effect": effect, "contrast": words, "task": task, "measure": measure}
                    yield named | _over_losses(one, other, task, measure)


def _successive(curves: Sequence[Sequence[Shape]], effect: str) -> Iterable[tuple[Sequence[Shape], Sequence[Shape]]]:
    """Pairs of curves with successive values of `effect`, the larger first, all else equal."""
    groups: dict[tuple[Any, ...], list[Sequence[Shape]]] = {}
    for curve in curves:
        groups.setdefault(_all_but(curve[0], effect), []).append(curve)
    for group in groups.values():
        in_order = sorted(
            group, key=lambda curve: (_value(curve[0], effect) is not None, _value(curve[0], effect) or 0)
        )
        yield from ((larger, smaller) for smaller, larger in pairwise(in_order) if _differ(smaller, larger, effect))


def _differ(one: Sequence[Shape], other: Sequence[Shape], effect: str) -> bool:
    return bool(_value(one[0], effect) != _value(other[0], effect))


def _all_but(shape: Shape, effect: str) -> tuple[Any, ...]:
    recipe = [shape.trial[key] for key in ("learning_rate", "initializer_range") if key != effect]
    body = [shape.trial[key] for key in ("hidden_size", "layers", "top_k", "expert_width")]
    return tuple(recipe if effect == "budget" else [*recipe, *body])


def _value(shape: Shape, effect: str) -> float | None:
    return shape.budget if effect == "budget" else shape.trial[effect]


def _contrast(one: Sequence[Shape], other: Sequence[Shape], effect: str) -> str:
    """The contrast in words: the differing values, and the shared shape unless the budget differs."""
    names = curve_names([one, other])
    if effect == "budget":
        sizes = (shape[0].trial["parameters"]["active"] for shape in (one, other))
        return " − ".join(f"{size:,} active ({name})" for size, name in zip(sizes, names, strict=True))
    trial = one[0].trial
    return f"{' − '.join(names)}, at width {trial['hidden_size']}, {trial['layers']} layers, K {trial['top_k']}"


def _over_losses(one: Sequence[Shape], other: Sequence[Shape], task: str, measure: str) -> dict[str, Any]:
    """Mean difference at equal training loss, seed by seed."""
    differences = []
    curves = [_by_loss(family, task, measure) for family in (one, other)]
    for seed in sorted(curves[0].keys() & curves[1].keys()):
        (x, y), (u, v) = curves[0][seed], curves[1][seed]
        low, high = max(x[0], u[0]), min(x[-1], u[-1])
        if low < high:
            at = np.linspace(low, high, _STEPS)
            differences.append(float((np.interp(at, x, y) - np.interp(at, u, v)).mean()))
    if not differences:
        reason = f"no seed has {_FEWEST_SHAPES} shapes of both with training losses that overlap"
        return _difference([], measure) | {"reason": reason}
    return _difference(differences, measure)


def _by_loss(family: Sequence[Shape], task: str, measure: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Seed → its training losses, ascending, and the measure at each."""
    pairs: dict[int, list[tuple[float, float]]] = {}
    for shape in family:
        losses, values = shape.of(TRAINING, "loss"), shape.of(task, measure)
        for seed in losses.keys() & values.keys():
            pairs.setdefault(seed, []).append((losses[seed], values[seed]))
    points = {seed: np.array(sorted(of)) for seed, of in pairs.items() if len(of) >= _FEWEST_SHAPES}
    return {seed: (of[:, 0], of[:, 1]) for seed, of in points.items()}


def _paired(effect: str, words: str, one: Shape, other: Shape, tasks: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Differences one − other in both measures of every task."""
    for task in tasks:
        for measure in MEASURES:
            a, b = one.of(task, measure), other.of(task, measure)
            differences = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
            named = {"effect": effect, "contrast": words, "task": task, "measure": measure}
            yield named | _difference(differences, measure)


def _difference(differences: Sequence[float], measure: str) -> dict[str, Any]:
    """Mean difference with its interval, and whether it is better or worse."""
    judged = _judged(differences, ("worse", "better") if _WORSE[measure] > 0 else ("better", "worse"))
    return {"difference": judged.pop("mean"), **judged}


def _judged(values: Sequence[float], words: tuple[str, str]) -> dict[str, Any]:
    """An interval with its verdict: the first word above 0, the second below."""
    bounds = interval(values)
    if bounds["n"] < FEWEST:
        return {**bounds, "verdict": None, "reason": f"{bounds['n']} seeds: three at least are needed"}
    word = words[0 if bounds["mean"] > 0 else 1] if excludes_zero(bounds) else "cannot tell"
    return {**bounds, "verdict": word, "reason": None}


def _experts(shape: Shape) -> str:
    return f"{shape.trial['experts']} experts"
