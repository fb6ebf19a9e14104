"""Tables of the two sweeps: the tests of PLAN.md, means by number of experts, contrasts, gaps and audits.

Shapes: S seeds, X numbers of experts.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from experiments.shared.intervals import signed
from experiments.shared.markdown import table
from experiments.sparsity.after import NARROW
from turnout.sparsity.analysis.frontier import frontier
from turnout.sparsity.analysis.statistics import generalization_gap, interval, loss_accuracy_gap, optimum, two_lines
from turnout.sparsity.sweep.result import SweepResult

TAUGHT, SHOWN, MARGIN = range(1, 13), (4, 6, 8, 10, 13), 0.01
Trial = dict[str, Any]
Trials = dict[tuple[int, int], Trial]
"""Trials by number of experts (1: dense) and seed."""
Measure = Callable[[Trial], float]


def mean_chains(name: str) -> Measure:
    """Mean of a measure over chains of the depths in training."""
    return lambda trial: float(np.mean([trial["found"]["tasks"][f"chains-{n}"][name] for n in TAUGHT]))


def fact(name: str) -> Measure:
    """Measure of facts."""
    return lambda trial: float(trial["found"]["tasks"]["facts"][name])


def audited(name: str) -> Measure:
    """Mean over layers of a measure of the audit."""
    return lambda trial: float(trial["found"]["audit"]["overall"][name]["mean"])


MEASURES: dict[str, Measure] = {
    "training loss": lambda trial: float(trial["found"]["training_loss"]),
    "facts: accuracy": fact("accuracy"),
    "facts: bits a parameter": fact("bits_per_parameter"),
    "chains: task loss": mean_chains("nats_per_token"),
    "chains: accuracy": mean_chains("accuracy"),
    **{f"chains-{n}: accuracy": (lambda trial, n=n: trial["found"]["tasks"][f"chains-{n}"]["accuracy"]) for n in SHOWN},
}
AUDIT = {"Gini": audited("gini"), "coverage": audited("coverage"), "Jaccard": audited("jaccard_mean")}
PRIMARY = (("facts: accuracy", -1), ("chains: task loss", 1))  # sign: the better value is the smaller one


def trials(sweep: Path) -> Trials:
    """Trials of a sweep that did not fail."""
    return {(x["experts"], x["seed"]): x for x in SweepResult.load(sweep).trials if x["error"] is None}


def complete(by: Trials, experts: Sequence[int]) -> list[int]:
    """Seeds with a trial for every number of experts."""
    return [seed for seed in sorted({seed for _, seed in by}) if all((e, seed) in by for e in experts)]


def shared(one: Trials, other: Trials) -> tuple[list[int], list[int]]:
    """Numbers of experts in both sweeps, and the seeds with all of them in both."""
    experts = sorted({e for e, _ in one if e > 1} & {e for e, _ in other if e > 1})
    return experts, sorted(set(complete(one, experts)) & set(complete(other, experts)))


def curve(by: Trials, of: Measure) -> tuple[np.ndarray, np.ndarray]:
    """log2 of the numbers of experts [X], and values [S, X] of the complete seeds."""
    experts = sorted({e for e, _ in by if e > 1})
    return np.log2(experts), np.array([[of(by[e, s]) for e in experts] for s in complete(by, experts)])


def primary(by: Trials, budget: str) -> list[dict[str, Any]]:
    """The two primary tests of PLAN.md, with the optimum."""
    rows = []
    for name, sign in PRIMARY:
        x_X, y_SX = curve(by, MEASURES[name])
        row: dict[str, Any] = {"budget": budget, "question": name, "seeds": len(y_SX), "points": len(x_X)}
        if len(y_SX) >= 3 and len(x_X) >= 4:
            test = two_lines(x_X, sign * y_SX, MARGIN)
            row |= {"verdict": test.verdict, "breaks": " ".join(f"{2**x:.0f}" for x in test.breaks)}
            for side, line in (("left", test.left), ("right", test.right)):
                row |= {f"{side} slope": sign * line.mean, f"{side} p": line.p}
                bounds = sorted((sign * line.low, sign * line.high))
                row |= {f"{side} low": bounds[0], f"{side} high": bounds[1]}
        if len(y_SX) >= 2 and len(x_X) >= 3:
            best = optimum(x_X, sign * y_SX)
            row |= {"best": 2**best.x, "best low": 2**best.low, "best high": 2**best.high, "at edge": best.at_edge}
        rows.append(row)
    return rows


def primary_table(rows: Sequence[dict[str, Any]]) -> str:
    """Table of the primary tests."""
    shown = []
    for row in rows:
        lines = [
            f"{row[f'{side} slope']:+.4f} [{row[f'{side} low']:+.4f}, {row[f'{side} high']:+.4f}], "
            f"{detectable(row, side, row['seeds']):.3f}"
            if f"{side} slope" in row
            else "–"
            for side in ("left", "right")
        ]
        best = f"{row['best']:.0f} [{row['best low']:.0f}, {row['best high']:.0f}]" if "best" in row else "–"
        edge = f"{row['at edge']:.2f}" if "at edge" in row else "–"
        verdict = row.get("verdict", "too few points or seeds")
        shown.append([row["budget"], row["question"], str(row["seeds"]), verdict, *lines, best, edge])
    head = [
        "budget",
        "question",
        "seeds",
        "two lines",
        "slope before the break [90 %], found at 80 %",
        "after it",
        "best E",
        "best at an edge",
    ]
    return table(head, shown)


def detectable(slope: dict[str, Any], side: str, seeds: int) -> float:
    """Slope that the one-sided test at 5 % would detect in 80 % of such experiments."""
    error = (slope[f"{side} high"] - slope[f"{side} low"]) / 2 / t.ppf(0.95, seeds - 1)
    return float(error * (t.ppf(0.95, seeds - 1) + t.ppf(0.8, seeds - 1)))


def shifted(narrow: Trials, wide: Trials) -> list[dict[str, Any]]:
    """Best log2 E at the wide budget − at the narrow one, over the numbers of experts in both, seed by seed."""
    experts, seeds = shared(narrow, wide)
    rows = []
    for name, sign in PRIMARY if len(seeds) > 1 else ():
        places = [
            [experts[int(np.argmin([sign * MEASURES[name](by[e, s]) for e in experts]))] for by in (narrow, wide)]
            for s in seeds
        ]
        moved = interval([np.log2(b / a) for a, b in places])
        rows.append({"question": name, "experts": str(experts), "seeds": len(seeds), "places": str(places), **moved})
    return rows


def shapes(by: Trials) -> str:
    """Mean over seeds of every measure, one row a number of experts."""
    rows = []
    for experts in sorted({e for e, _ in by}):
        mine = [trial for (e, _), trial in sorted(by.items()) if e == experts]
        total = mine[0]["parameters"]["total"] / 1e6
        head = ["dense" if experts == 1 else str(experts), str(len(mine)), f"{total:.2f}", f"{mine[0]['tpp']:.1f}"]
        rows.append([*head, *(f"{np.mean([of(trial) for trial in mine]):.3f}" for of in MEASURES.values())])
    return table(["E", "seeds", "total, M", "TPP", *MEASURES], rows)


def dense_contrasts(by: Trials) -> str:
    """Difference of each MoE to the dense model of equal active parameters."""
    rows = []
    for experts in sorted({e for e, _ in by if e > 1}):
        seeds = complete(by, (1, experts))
        if len(seeds) > 1:
            cells = [
                span(interval([MEASURES[name](by[experts, s]) - MEASURES[name](by[1, s]) for s in seeds]))
                for name, _ in PRIMARY
            ]
            rows.append([str(experts), str(len(seeds)), *cells])
    return table(["E − dense", "pairs", *(name for name, _ in PRIMARY)], rows)


def gaps(by: Trials) -> str:
    """Both gaps along sparsity, mean over seeds, and their slope per doubling by seed."""
    x_X, training_SX = curve(by, MEASURES["training loss"])
    if len(training_SX) < 2:
        return ""
    rows = []
    for task, loss, accuracy in (
        ("facts", fact("nats_per_token"), fact("accuracy")),
        ("chains", mean_chains("nats_per_token"), mean_chains("accuracy")),
    ):
        losses_SX, right_SX = curve(by, loss)[1], curve(by, accuracy)[1]
        beyond_SX = loss_accuracy_gap(losses_SX.ravel(), right_SX.ravel()).reshape(losses_SX.shape)
        for name, y_SX in (
            ("task loss − training loss", generalization_gap(losses_SX, training_SX)),
            ("accuracy − what the task loss predicts", beyond_SX),
        ):
            rows.append([f"{task}: {name}", *(f"{mean:+.3f}" for mean in y_SX.mean(0)), slope(x_X, y_SX)])
    return table(["gap", *(f"{2**x:.0f}" for x in x_X), "slope per doubling"], rows)


def slope(x_X: np.ndarray, y_SX: np.ndarray) -> str:
    """Mean slope of the least-squares lines of the seeds, with its interval."""
    return span(interval([float(np.polyfit(x_X, row, 1)[0]) for row in y_SX]))


def committees(by: Trials) -> str:
    """The audit's measures along sparsity, and their slope per doubling by seed."""
    audited_by = {key: trial for key, trial in by.items() if key[0] > 1 and trial["found"]["audit"]}
    if not audited_by:
        return ""
    experts = sorted({e for e, _ in audited_by})
    rows = []
    for name, of in AUDIT.items():
        x_X, y_SX = curve(audited_by, of)
        rows.append([name, *(f"{mean:.3f}" for mean in y_SX.mean(0)), slope(x_X, y_SX)])
    cores = []
    for e in experts:
        layers = [
            layer for (x, _), trial in audited_by.items() if x == e for layer in trial["found"]["audit"]["layers"]
        ]
        cores.append(f"{sum(not layer['claim']['failed'] for layer in layers)} of {len(layers)}")
    rows.append(["layers that fail no part but the rotated router's, which all tokens do not have", *cores, ""])
    return table(["audit", *map(str, experts), "slope per doubling"], rows)


def wider(narrow: Trials, wide: Trials) -> str:
    """Wide − narrow at equal E, mean over E by seed."""
    experts, seeds = shared(narrow, wide)
    rows = []
    for name in ("facts: accuracy", "chains: task loss", "chains: accuracy") if len(seeds) > 1 else ():
        of = MEASURES[name]
        means = [float(np.mean([of(wide[e, s]) - of(narrow[e, s]) for e in experts])) for s in seeds]
        rows.append([name, str(len(seeds)), span(interval(means))])
    return table([f"wide − narrow, mean over E of {experts}", "seeds", "difference [95 %]"], rows)


def contrasts(other: Path, effect: str, first: str) -> str:
    """Effects of a sweep that differs from the narrow one only in `effect`, seed by seed; chains of all lengths."""
    both = [trial for path in (NARROW, other) for trial in SweepResult.load(path).trials]
    rows = []
    for one in frontier({"trials": both, "left_out": []})["effects"]:
        if one["effect"] != effect or one["task"] not in ("facts", "chains"):
            continue
        difference = span(one | {"mean": one["difference"]})
        rows.append([one["contrast"], one["task"], one["measure"], str(one["n"]), difference, one["verdict"] or "–"])
    return table(["contrast", "task", "measure", "seeds", "difference [95 %]", first], rows)


def span(figure: dict[str, Any]) -> str:
    """A mean and its interval."""
    return signed(figure["mean"], figure["low"], figure["high"])
