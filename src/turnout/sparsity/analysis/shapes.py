"""A sweep's trials by shape: what each shape is, and each measure of it by seed.

A *curve* is a set of shapes that differ in the number of experts alone. A *budget* is a set of shapes of nearly equal
active parameters, the router's left out: they grow with E, the rest of what a token passes does not.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.sparsity.analysis.statistics import generalisation_gap, loss_accuracy_gap

ALL_CHAINS = "chains"
"""The mean over all numbers of operations that were asked."""
AUDIT, TRAINING = "audit", "training"
AUDITED = ("gini", "coverage", "jaccard_mean")
NEARLY = 0.05  # relative difference of active parameters, or of TPP, that counts as equal
_MEASURES = {
    "nats_per_token": "loss",
    "nats_per_byte": "loss_per_byte",
    "accuracy": "accuracy",
    "bits_per_parameter": "bits_per_parameter",
}
_DESCRIBED = {
    "hidden_size": "width {}",
    "layers": "{} layers",
    "top_k": "K {}",
    "expert_width": "expert width {}",
    "learning_rate": "lr {:g}",
    "initializer_range": "init {:g}",
}
Values = dict[tuple[str, str], float]
"""One trial's figures by (task, measure)."""


@dataclass(frozen=True)
class Shape:
    """All trials of one shape.

    Attributes:
        name: of the shape.
        trial: what sweep.json says of any of its trials.
        values: (task, measure) → {seed: figure}.
        failed: how many of its trials failed.
        budget: which active budget it belongs to, from 0, the smallest.
    """

    name: str
    trial: Mapping[str, Any]
    values: Mapping[tuple[str, str], Mapping[int, float]]
    failed: int
    budget: int

    def of(self, task: str, measure: str) -> Mapping[int, float]:
        """One measure by seed; empty where there is none."""
        return self.values.get((task, measure), {})

    def same(self, other: "Shape", *but: str) -> bool:
        """Whether it was trained as `other` in width, depth, learning rate and initialisation, leaving out `but`."""
        keys = {"hidden_size", "layers", "learning_rate", "initializer_range"} - set(but)
        return all(self.trial[key] == other.trial[key] for key in keys)


def read_shapes(trials: Sequence[Mapping[str, Any]]) -> list[Shape]:
    """The shapes of a sweep's trials (sweep.json), in its order, both gaps among their measures."""
    values = [_values(trial["found"]) if trial["found"] else {} for trial in trials]
    _add_gaps(values)
    budget_of = _budgets({trial["shape"]: computing(trial) for trial in trials})
    made = []
    for name, first in {trial["shape"]: trial for trial in reversed(trials)}.items():
        mine = [(trial, found) for trial, found in zip(trials, values, strict=True) if trial["shape"] == name]
        keys = dict.fromkeys(key for _, found in mine for key in found)
        by_seed = {key: {trial["seed"]: found[key] for trial, found in mine if key in found} for key in keys}
        failed = sum(trial["error"] is not None for trial, _ in mine)
        made.append(Shape(name, first, by_seed, failed, budget_of[name]))
    return sorted(made, key=lambda shape: (shape.budget, shape.trial["experts"]))


def tasks_of(shapes: Iterable[Shape]) -> list[str]:
    """The tasks that were asked, the mean over chains among them."""
    return list(dict.fromkeys(task for shape in shapes for task, _ in shape.values if task not in (AUDIT, TRAINING)))


def curves_of(shapes: Iterable[Shape]) -> list[list[Shape]]:
    """Shapes that differ in the number of experts alone, ascending; dense models are on no curve."""
    curves: dict[tuple[Any, ...], list[Shape]] = {}
    for shape in shapes:
        trial = shape.trial
        if not trial["dense"]:
            recipe = (trial["learning_rate"], trial["initializer_range"])
            key = (trial["hidden_size"], trial["layers"], trial["top_k"], trial["expert_width"], *recipe)
            curves.setdefault(key, []).append(shape)
    return [sorted(curve, key=lambda shape: shape.trial["experts"]) for curve in curves.values()]


def curve_names(curves: Sequence[Sequence[Shape]]) -> list[str]:
    """Each curve in words: what it does not share with the others, or all of it where there is one."""
    described = [_described(curve[0].trial) for curve in curves]
    telling = [key for key in _DESCRIBED if len({words[key] for words in described}) > 1] or list(_DESCRIBED)
    return [", ".join(words[key] for key in telling if words[key]) for words in described]


def _described(trial: Mapping[str, Any]) -> dict[str, str]:
    return {key: "" if trial[key] is None else words.format(trial[key]) for key, words in _DESCRIBED.items()}


def paired_values(
    curve: Sequence[Shape], task: str, measure: str
) -> tuple[list[Shape], list[int], NDArray[np.float64]]:
    """A curve's points and seeds that have every value, and the values [S, X].

    A point where no trial has the measure is left out; then every seed that lacks one of the points left.
    """
    points = [shape for shape in curve if shape.of(task, measure)]
    seeds = sorted(set.intersection(*(set(shape.of(task, measure)) for shape in points))) if points else []
    rows = [[shape.of(task, measure)[seed] for shape in points] for seed in seeds]
    return points, seeds, np.array(rows, np.float64).reshape(len(seeds), len(points))


def computing(trial: Mapping[str, Any]) -> int:
    """Active parameters but for the router's."""
    router = 0 if trial["dense"] else trial["layers"] * trial["hidden_size"] * trial["experts"]
    return int(trial["parameters"]["active"] - router)


def _values(found: Mapping[str, Any]) -> Values:
    values: Values = {}
    if found["training_loss"] is not None:
        values[TRAINING, "loss"] = found["training_loss"]
    for task, figures in found["tasks"].items():
        values |= {(task, ours): figures[name] for name, ours in _MEASURES.items() if figures.get(name) is not None}
    chains = [task for task in found["tasks"] if re.fullmatch(r"chains-\d+", task)]
    if len(chains) > 1 and ALL_CHAINS not in found["tasks"]:
        for measure in ("loss", "loss_per_byte", "accuracy"):
            known = [values[task, measure] for task in chains if (task, measure) in values]
            values |= {(ALL_CHAINS, measure): fmean(known)} if len(known) == len(chains) else {}
    overall = (found["audit"] or {}).get("overall", {})
    means = {name: overall[name]["mean"] for name in AUDITED if name in overall}
    return values | {(AUDIT, name): mean for name, mean in means.items() if mean is not None}


def _add_gaps(values: Sequence[Values]) -> None:
    """Both gaps of every trial that has what they need; the loss–accuracy gap is relative to all of the sweep."""
    for task in {task for found in values for task, measure in found if measure == "accuracy"}:
        trained = [found for found in values if (TRAINING, "loss") in found and (task, "loss") in found]
        losses = np.array([[found[task, "loss"], found[TRAINING, "loss"]] for found in trained]).reshape(-1, 2)
        for found, gap in zip(trained, generalisation_gap(losses[:, 0], losses[:, 1]), strict=True):
            found[task, "generalisation_gap"] = float(gap)
        asked = [found for found in values if {(task, "loss"), (task, "accuracy")} <= found.keys()]
        if len(asked) > 2:  # a fit through fewer explains everything
            pairs = np.array([[found[task, "loss"], found[task, "accuracy"]] for found in asked])
            for found, gap in zip(asked, loss_accuracy_gap(pairs[:, 0], pairs[:, 1]), strict=True):
                found[task, "loss_accuracy_gap"] = float(gap)


def _budgets(active: Mapping[str, int]) -> dict[str, int]:
    """Each shape's budget: a new one wherever active parameters exceed the smallest of the last by more than 5 %."""
    found: dict[str, int] = {}
    least, budget = 0.0, -1
    for name, size in sorted(active.items(), key=lambda item: item[1]):
        if budget < 0 or size > least * (1 + NEARLY):
            least, budget = float(size), budget + 1
        found[name] = budget
    return found
