"""How many questions the model answers right, where its answers were read."""

import math

import polars as pl

_Z = 1.959963984540054  # the normal distribution's 97.5 % point


def with_predictions(samples: pl.DataFrame) -> pl.DataFrame:
    """`samples` with `predicted` (the choice of greatest log-probability, the first of equals) and `correct`.

    Both are null where no answer was read; `correct` also where nobody says which is right.
    """
    predicted = pl.col("choice_logprobs").list.arg_max().cast(pl.Int16)
    return samples.with_columns(predicted=predicted).with_columns(correct=pl.col("predicted") == pl.col("answer"))


def accuracy(samples: pl.DataFrame, domains: tuple[str, ...]) -> dict[str, object] | None:
    """Share of right answers, overall and by domain, each with its Wilson 95 % interval; None where none was read.

    Args:
        samples: what `with_predictions` returns, with each sample's `domain`.
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
    return {"accuracy": correct / n, "correct": correct, "questions": n, "interval": list(wilson(correct, n))}


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the share `correct` of `n`, inside 0…1 (E. B. Wilson, 1927)."""
    share, z2 = correct / n, _Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))  # at 0 and n up to rounding
