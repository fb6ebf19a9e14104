"""What the oracle gains beyond its control."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from turnout.aligning.evaluation import paired_interval


def oracle_figures(table: pl.DataFrame, domains: Sequence[str], seed: int) -> dict[str, Any]:
    """The oracle beside its control, overall and by domain.

    `wrong` holds the figures of the questions that the base model answers wrong and whose wrong letter it does not
    give either: both descents start from a letter that is not theirs. `all` counts every question; there the right
    letter has an advantage of its own, since the base often gives it without a step.

    Args:
        table: one row a question: what the oracle's `answers` holds.
        domains: names, in order.
        seed: of the resamples of questions.
    """
    fair = table.filter((pl.col("before") != pl.col("answer")) & (pl.col("before") != pl.col("wrong_letter")))
    by_domain = {domain: _excess(fair.filter(pl.col("domain") == domain), seed) for domain in domains}
    return {"wrong": {"overall": _excess(fair, seed), "domains": by_domain}, "all": _excess(table, seed)}


def _excess(table: pl.DataFrame, seed: int) -> Mapping[str, Any]:
    """Shares of questions brought to the right letter and to the wrong one, their difference with its 95 % interval."""
    if not len(table):
        return {"questions": 0, **dict.fromkeys(("right", "control", "excess", "interval", "steps", "logprob"))}
    right, control = (table[name].to_numpy() >= 0 for name in ("steps", "wrong_steps"))
    difference = right.astype(int) - control.astype(int)
    return {
        "questions": len(table),
        "right": float(right.mean()),
        "control": float(control.mean()),
        "excess": float(difference.mean()),
        "interval": paired_interval(difference, seed),
        "steps": {"right": _mean_steps(table["steps"]), "control": _mean_steps(table["wrong_steps"])},
        "logprob": {"right": table["logprob_before"].mean(), "control": table["logprob_wrong_before"].mean()},
    }


def _mean_steps(steps: pl.Series) -> float | None:
    """Mean steps of the descents that arrived."""
    mean = steps.filter(steps >= 0).mean()
    return None if mean is None else float(mean)  # type: ignore[arg-type]  # polars: of any dtype
