"""Trials of a sweep grouped by shape, with each measure by seed.

A *curve* is a set of shapes that differ in the number of experts alone. A *budget* is a set of shapes of nearly equal
active parameters, without the router's, which grow with E while the others do not.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.sparsity.analysis.statistics import generalization_gap, loss_accuracy_gap

ALL_CHAINS = "chains"
"""Name of the task that is the mean over all numbers of operations."""
AUDIT, TRAINING = "audit", "training"
AUDITED = ("gini", "coverage", "jaccard_mean")
NEARLY = 0.05
"""Relative difference of active parameters, or of TPP, that counts as equal."""
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
"""Figures of one trial by (task, measure)."""


@dataclass(frozen=True)
class Shape:
    """All trials of one shape.

    Attributes:
        name: of the shape.
        trial: the entry of one of its trials in sweep.json.
        values: (task, measure) → {seed: figure}.
        failed: number of its failed trials.
        budget: number of its active budget, from 0, the smallest.
    """

    name: str
    trial: Mapping[str, Any]
    values: Mapping[tuple[str, str], Mapping[int, float]]
    failed: int
    budget: int

    def of(self, task: str, measure: str) -> Mapping[int, float]:
        """One measure by seed; empty if no trial has it."""
        return self.values.get((task, measure), {})

    def same(self, other: "Shape") -> bool:
        """Whether width, depth, learning rate and initialization equal those of `other`."""
        keys = ("hidden_size", "layers", "learning_rate", "initializer_range")
        return all(self.trial[key] == other.trial[key] for key in keys)


def read_shapes(trials: Sequence[Mapping[str, Any]]) -> list[Shape]:
    """Shapes of a sweep's trials (`trials` of sweep.json), by budget and experts, with both gaps as measures."""
    values = [_values(trial["found"]) if trial["found"] else {} for trial in trials]
    _add_gaps(values)
    budget_of = _budgets({trial["shape"]: active_without_router(trial) for trial in trials})
    shapes = []
    for name, first in {trial["shape"]: trial for trial in reversed(trials)}.items():
        own = [(trial, figures) for trial, figures in zip(trials, values, strict=True) if trial["shape"] == name]
        keys = dict.fromkeys(key for _, figures in own for key in figures)
        by_seed = {key: {trial["seed"]: figures[key] for trial, figures in own if key in figures} for key in keys}
        failed = sum(trial["error"] is not None for trial, _ in own)
        shapes.append(Shape(name, first, by_seed, failed, budget_of[name]))
    return sorted(shapes, key=lambda shape: (shape.budget, shape.trial["experts"]))


def tasks_of(shapes: Iterable[Shape]) -> list[str]:
    """Tasks of the trials, with the mean over chains."""
    return list(dict.fromkeys(task for shape in shapes for task, _ in shape.values if task not in (AUDIT, TRAINING)))


def curves_of(shapes: Iterable[Shape]) -> list[list[Shape]]:
    """Curves, each ascending in the number of experts; dense models are on none."""
    curves: dict[tuple[Any, ...], list[Shape]] = {}
    for shape in shapes:
        trial = shape.trial
        if not trial["dense"]:
            recipe = (trial["learning_rate"], trial["initializer_range"])
            key = (trial["hidden_size"], trial["layers"], trial["top_k"], trial["expert_width"], *recipe)
            curves.setdefault(key, []).append(shape)
    return [sorted(curve, key=lambda shape: shape.trial["experts"]) for curve in curves.values()]


def curve_names(curves: Sequence[Sequence[Shape]]) -> list[str]:
    """Name of each curve: the values in which curves differ, or all values if there is one curve."""
    described = [_described(curve[0].trial) for curve in curves]
    differing = [key for key in _DESCRIBED if len({words[key] for words in described}) > 1] or list(_DESCRIBED)
    return [", ".join(words[key] for key in differing if words[key]) for words in described]


def _described(trial: Mapping[str, Any]) -> dict[str, str]:
    return {key: "" if trial[key] is None else words.format(trial[key]) for key, words in _DESCRIBED.items()}


def paired_values(
    curve: Sequence[Shape], task: str, measure: str
) -> tuple[list[Shape], list[int], NDArray[np.float64]]:
    """Points and seeds of a curve that have every value, and the values [S, X].

    A point without the measure in any trial is left out; then every seed without it at one of the remaining points.
    """
    points = [shape for shape in curve if shape.of(task, measure)]
    seeds = sorted(set.intersection(*(set(shape.of(task, measure)) for shape in points))) if points else []
    rows = [[shape.of(task, measure)[seed] for shape in points] for seed in seeds]
    return points, seeds, np.array(rows, np.float64).reshape(len(seeds), len(points))


def active_without_router(trial: Mapping[str, Any]) -> int:
    """Active parameters without the router's."""
    router = 0 if trial["dense"] else trial["layers"] * trial["hidden_size"] * trial["experts"]
    return int(trial["parameters"]["active"] - router)


def _values(results: Mapping[str, Any]) -> Values:
    values: Values = {}
    if results["training_loss"] is not None:
        values[TRAINING, "loss"] = results["training_loss"]
    for task, figures in results["tasks"].items():
        values |= {(task, ours): figures[name] for name, ours in _MEASURES.items() if figures.get(name) is not None}
    chains = [task for task in results["tasks"] if re.fullmatch(r"chains-\d+", task)]
    if len(chains) > 1 and ALL_CHAINS not in results["tasks"]:
        for measure in ("loss", "loss_per_byte", "accuracy"):
            known = [values[task, measure] for task in chains if (task, measure) in values]
            values |= {(ALL_CHAINS, measure): fmean(known)} if len(known) == len(chains) else {}
    overall = (results["audit"] or {}).get("overall", {})
    means = {name: overall[name]["mean"] for name in AUDITED if name in overall}
    return values | {(AUDIT, name): mean for name, mean in means.items() if mean is not None}


def _add_gaps(values: Sequence[Values]) -> None:
    """Add both gaps to every trial that has the losses; the loss–accuracy gap is relative to the whole sweep."""
    for task in {task for figures in values for task, measure in figures if measure == "accuracy"}:
        trained = [figures for figures in values if (TRAINING, "loss") in figures and (task, "loss") in figures]
        losses = np.array([[figures[task, "loss"], figures[TRAINING, "loss"]] for figures in trained]).reshape(-1, 2)
        for figures, gap in zip(trained, generalization_gap(losses[:, 0], losses[:, 1]), strict=True):
            figures[task, "generalisation_gap"] = float(gap)
        scored = [figures for figures in values if {(task, "loss"), (task, "accuracy")} <= figures.keys()]
        if len(scored) > 2:  # a fit through fewer explains everything
            pairs = np.array([[figures[task, "loss"], figures[task, "accuracy"]] for figures in scored])
            for figures, gap in zip(scored, loss_accuracy_gap(pairs[:, 0], pairs[:, 1]), strict=True):
                figures[task, "loss_accuracy_gap"] = float(gap)


def _budgets(active: Mapping[str, int]) -> dict[str, int]:
    """Budget of each shape: a new one where active parameters exceed the smallest of the last by more than 5 %."""
    budgets: dict[str, int] = {}
    least, budget = 0.0, -1
    for name, size in sorted(active.items(), key=lambda item: item[1]):
        if budget < 0 or size > least * (1 + NEARLY):
            least, budget = float(size), budget + 1
        budgets[name] = budget
    return budgets
