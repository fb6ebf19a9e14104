"""Accuracy of the model's answers, for audits with answers."""

import polars as pl

from turnout import ops


def with_predictions(samples: pl.DataFrame) -> pl.DataFrame:
    """Add `predicted` (the choice of greatest log-probability, the first of equal ones) and `correct` to `samples`.

    Both are null if the model's answer was not read; `correct` also if the right answer is unknown.
    """
    predicted = pl.col("choice_logprobs").list.arg_max().cast(pl.Int16)
    return samples.with_columns(predicted=predicted).with_columns(correct=pl.col("predicted") == pl.col("answer"))


def accuracy(samples: pl.DataFrame, domains: tuple[str, ...]) -> dict[str, object] | None:
    """Share of right answers, overall and by domain, with Wilson 95 % intervals; None if no answer was read.

    Args:
        samples: the result of `with_predictions`, with each sample's `domain`.
        domains: names, in order.
    """
    scored = samples.filter(pl.col("correct").is_not_null())
    if scored.is_empty():
        return None
    by_domain = {d: scored.filter(pl.col("domain") == d)["correct"] for d in domains}
    return {"overall": _share(scored["correct"]), "domains": {d: _share(right) for d, right in by_domain.items()}}


def _share(right: pl.Series) -> dict[str, object] | None:
    n, correct = len(right), int(right.sum())
    if n == 0:
        return None
    return {"accuracy": correct / n, "correct": correct, "questions": n, "interval": list(ops.wilson(correct, n))}
