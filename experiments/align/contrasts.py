"""Accuracy contrasts of the alignment experiment, question by question.

Intervals resample seeds and questions, both (two-way bootstrap, two-sided 95 %). Shapes: S seeds, Q questions,
R resamples.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from experiments.align.questions import HELD_OUT
from experiments.align.run import ABLATIONS, HOT, PRIMARY, SEEDS, TRAINED
from turnout import ops

RESAMPLES, POWER = 10_000, 2.8  # standard errors that a two-sided 5 % test detects in four of five cases
PLAIN, MAIN = PRIMARY
Runs = dict[str, dict[str, Any]]
"""Results by name."""


def seeds_of(runs: Runs, method: str, seeds: Iterable[int] = SEEDS) -> list[int]:
    """Seeds of a method's runs."""
    return [seed for seed in seeds if f"{method}-{seed}" in runs]


def correct(runs: Runs, method: str, seeds: Sequence[int], held_out: bool) -> np.ndarray:
    """Correct answers [S, Q] to the test questions of the tuned domains, or of the held-out one."""
    rows = []
    for seed in seeds:
        frame = pl.DataFrame(runs[f"{method}-{seed}"]["answers"]).sort("id")
        frame = frame.filter((pl.col("domain") == HELD_OUT) == held_out)
        rows.append((frame["after"] == frame["answer"]).to_numpy())
    return np.array(rows, dtype=float)


def base_correct(runs: Runs, held_out: bool) -> np.ndarray:
    """Correct answers [1, Q] of the base model."""
    frame = pl.DataFrame(runs[f"{PLAIN}-0"]["answers"]).sort("id").filter((pl.col("domain") == HELD_OUT) == held_out)
    return (frame["before"] == frame["answer"]).to_numpy().astype(float)[None]


def two_way(difference_SQ: np.ndarray) -> dict[str, float]:
    """Mean, interval, p and least detectable mean of a difference, by resampling seeds and questions."""
    draw, (n_seeds, n_questions) = np.random.default_rng(0), difference_SQ.shape
    seeds_RS = draw.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), RESAMPLES) / n_seeds
    questions_Q, means = np.full(n_questions, 1 / n_questions), []
    for chunk_RS in np.array_split(seeds_RS, 20):
        drawn_RQ = draw.multinomial(n_questions, questions_Q, len(chunk_RS)) / n_questions
        means.append((chunk_RS @ difference_SQ * drawn_RQ).sum(1))
    means_R = np.concatenate(means)
    low, high = np.quantile(means_R, [0.025, 0.975])
    beyond = min((means_R <= 0).sum(), (means_R >= 0).sum())
    return {
        "mean": float(difference_SQ.mean()),
        "low": float(low),
        "high": float(high),
        "p": min(1.0, 2 * (1 + int(beyond)) / (1 + RESAMPLES)),
        "detectable": POWER * float(means_R.std()),
    }


def contrast(runs: Runs, a: str, b: str, held_out: bool) -> dict[str, Any] | None:
    """Accuracy of `a` − that of `b`, seed by seed; a method with a single run is compared with every seed."""
    seeds = seeds_of(runs, b)
    first = seeds_of(runs, a)
    if a == "base":
        left_SQ = base_correct(runs, held_out)
    elif len(first) == 1:
        left_SQ = correct(runs, a, first, held_out)
    else:
        seeds = [seed for seed in seeds if seed in first]
        left_SQ = correct(runs, a, seeds, held_out) if seeds else np.empty((0, 0))
    if not seeds or not left_SQ.size:
        return None
    questions = HELD_OUT if held_out else "tuned"
    difference = two_way(left_SQ - correct(runs, b, seeds, held_out))
    runs_of_a = 1 if len(first) == 1 else len(seeds)
    return {"a": a, "b": b, "questions": questions, "seeds": runs_of_a, **difference}


def contrasts(runs: Runs) -> pl.DataFrame:
    """Contrasts with router tuning, and of ablations with RoMA; Holm within each family, without the primary one."""
    names = ["base", MAIN, *(m for m in TRAINED if m not in (PLAIN, MAIN)), "c3po", "oracle"]
    families = [(names, PLAIN, out) for out in (False, True)]
    families.append(([f"{MAIN}-{name}" for name in ABLATIONS], MAIN, False))
    families += [
        (["base", f"{MAIN}-at-{rate:g}"], f"{PLAIN}-at-{rate:g}", out) for rate in HOT for out in (False, True)
    ]
    frames = []
    for methods, base, held_out in families:
        rows = [row for method in methods if (row := contrast(runs, method, base, held_out))]
        if not rows:
            continue
        frame = pl.DataFrame(rows).with_columns(primary=(pl.col("a") == MAIN) & (not held_out))
        rest = frame.filter(~pl.col("primary"))
        p = torch.tensor(rest["p"].to_list(), dtype=torch.float64)
        holm = pl.Series(ops.holm(p).tolist() if len(p) else [], dtype=pl.Float64)
        frames.append(pl.concat([frame.filter("primary"), rest.with_columns(holm=holm)], how="diagonal"))
    return pl.concat(frames, how="diagonal").with_columns(pl.col("holm").cast(pl.Float64)) if frames else pl.DataFrame()
