"""Result of GRPO: grpo.json as an object, and how its figures are computed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from turnout.reasoning.answers import Answers
from turnout.reasoning.grpo.config import GrpoConfig
from turnout.runs.result import Result
from turnout.tasks.exercises import Exercise

SCHEMA, GRPO_FILE, ANSWERS, CURVES = 1, "grpo.json", "answers", "curves"
_RESAMPLES = 2000


class GrpoResult(Result):
    """Test problems before and after training; `path / "model"` is the trained checkpoint."""

    FILE, VERB = GRPO_FILE, "grpo"

    @property
    def accuracy(self) -> dict[str, Any]:
        """`before`, `after`, their `difference` and its 95 % `interval` over problems."""
        return dict(self._content["accuracy"])

    def frame(self) -> pl.DataFrame:
        """One row a step and metric: reward, kl, loss, tokens, grad_norm."""
        return self.table(CURVES)


def content_of(
    described: Mapping[str, Any],
    tasks: str,
    config: GrpoConfig,
    tested: Sequence[Exercise],
    before: Answers,
    after: Answers,
) -> dict[str, Any]:
    """grpo.json's content.

    Args:
        described: the description of the model.
        tasks: the exercises, as they were named.
        config: the settings.
        tested: the test problems.
        before: their answers before training.
        after: their answers after it.
    """
    levels = sorted({one.level for one in tested})
    by_level = {}
    for level in levels if len(levels) > 1 else ():
        at = [i for i, one in enumerate(tested) if one.level == level]
        by_level[str(level)] = _difference([before.right[i] for i in at], [after.right[i] for i in at], config.seed)
    return {
        "schema": SCHEMA,
        "model": dict(described),
        "tasks": tasks,
        "config": config.describe(),
        "before": before.figures(),
        "after": after.figures(),
        "accuracy": _difference(before.right, after.right, config.seed),
        "levels": by_level,
    }


def curve_table(history: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """`tables/curves.parquet` from the Trainer's log history: one row a (step, metric)."""
    logged = {
        "reward": "reward",
        "kl": "kl",
        "loss": "loss",
        "completions/mean_length": "tokens",
        "grad_norm": "grad_norm",
    }
    rows = [
        (entry["step"], name, float(entry[key])) for entry in history for key, name in logged.items() if key in entry
    ]
    return pl.DataFrame(rows, schema={"step": pl.Int64, "metric": pl.String, "value": pl.Float64}, orient="row")


def answer_table(tested: Sequence[Exercise], before: Answers, after: Answers) -> pl.DataFrame:
    """`tables/answers.parquet`: one row a test problem."""
    rows = zip(tested, before.final, after.final, before.right, after.right, strict=True)
    schema = {"problem": pl.String, "level": pl.Int64, "gold": pl.String, "before": pl.String, "after": pl.String}
    schema |= {"right_before": pl.Boolean, "right_after": pl.Boolean}
    return pl.DataFrame([(one.id, one.level, one.answer, *rest) for one, *rest in rows], schema=schema, orient="row")


def _difference(before: Sequence[bool], after: Sequence[bool], seed: int) -> dict[str, Any]:
    """Accuracy before and after, and their paired difference with a bootstrap interval over problems."""
    changed = np.array(after, float) - np.array(before, float)
    drawn = np.random.default_rng(seed).integers(0, len(changed), (_RESAMPLES, len(changed)))
    return {
        "problems": len(changed),
        "before": float(np.mean(before)),
        "after": float(np.mean(after)),
        "difference": float(changed.mean()),
        "interval": np.quantile(changed[drawn].mean(1), [0.025, 0.975]).tolist(),
    }
