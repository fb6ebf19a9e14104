"""Result of voting: votes.json as an object, and how its figures are computed.

Shapes: P problems, N samples of each.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from turnout import ops
from turnout.reasoning.vote.config import VoteConfig
from turnout.runs.result import Result
from turnout.tasks.exercises import Exercise

SCHEMA, VOTES_FILE, ANSWERS = 1, "votes.json", "answers"


class VoteResult(Result):
    """pass@n and majority votes by number of samples."""

    FILE, VERB = VOTES_FILE, "vote"

    def frame(self) -> pl.DataFrame:
        """One row a number of samples: `pass`, `majority`, each with `_low` and `_high`."""
        rows = []
        for vote in self._content["votes"]:
            row = {"samples": vote["samples"]}
            for name in ("pass", "majority"):
                low, high = vote[f"{name}_interval"]
                row |= {name: vote[name], f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
        return pl.DataFrame(rows)


def content_of(
    described: Mapping[str, Any],
    tasks: str,
    config: VoteConfig,
    exercises: Sequence[Exercise],
    answers_PN: Sequence[Sequence[str | None]],
) -> dict[str, Any]:
    """votes.json's content.

    Args:
        described: the description of the model.
        tasks: the exercises, as they were named.
        config: the settings.
        exercises: the P problems.
        answers_PN: the final answer of each sample; None if it has none.
    """
    answers = [answer for answers_N in answers_PN for answer in answers_N]
    votes = figures(
        answers_PN,
        [one.answer for one in exercises],
        config.sizes,
        subsets=config.subsets,
        resamples=config.resamples,
        seed=config.seed,
    )
    return {
        "schema": SCHEMA,
        "model": dict(described),
        "tasks": tasks,
        "config": config.describe(),
        "problems": len(exercises),
        "no_answer": sum(answer is None for answer in answers) / len(answers),
        "votes": votes,
    }


def figures(
    answers_PN: Sequence[Sequence[str | None]],
    gold_P: Sequence[str],
    sizes: Sequence[int],
    *,
    subsets: int,
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """pass@n and majority votes, each with a 95 % percentile interval over resampled problems.

    Args:
        answers_PN: the final answer of each sample; None if it has none.
        gold_P: the gold answers.
        sizes: numbers of samples that vote.
        subsets: random subsets over which a vote of fewer than N is averaged.
        resamples: of the problems.
        seed: of subsets and resamples.

    Returns:
        One dict a size: `samples`, `pass` (unbiased, arXiv 2107.03374), `majority` (arXiv 2203.11171), each with its
        `_interval`.
    """
    rng = np.random.default_rng(seed)
    n = len(answers_PN[0])
    problems = list(zip(answers_PN, gold_P, strict=True))
    right_P = [sum(answer == gold for answer in answers_N) for answers_N, gold in problems]
    drawn = rng.integers(0, len(gold_P), (resamples, len(gold_P)))
    rows = []
    for size in sizes:
        passed = np.array([ops.pass_at_k(n, right, size) for right in right_P])
        voted = np.array([_majority(answers_N, gold, size, subsets, rng) for answers_N, gold in problems])
        row: dict[str, Any] = {"samples": size}
        for name, values in (("pass", passed), ("majority", voted)):
            row[name] = float(values.mean())
            row[f"{name}_interval"] = np.quantile(values[drawn].mean(1), [0.025, 0.975]).tolist()
        rows.append(row)
    return rows


def answer_table(exercises: Sequence[Exercise], answers_PN: Sequence[Sequence[str | None]]) -> pl.DataFrame:
    """`tables/answers.parquet`: one row a (problem, answer), with the number of times that it was given."""
    rows = []
    for one, answers_N in zip(exercises, answers_PN, strict=True):
        counts = pl.Series(answers_N, dtype=pl.String).value_counts().sort("count", "", descending=[True, False])
        rows += [(one.id, one.level, answer, n, answer == one.answer) for answer, n in counts.iter_rows()]
    schema = {"problem": pl.String, "level": pl.Int64, "answer": pl.String, "times": pl.Int64, "right": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _majority(answers_N: Sequence[str | None], gold: str, size: int, subsets: int, rng: np.random.Generator) -> float:
    """Accuracy of the majority of `size` answers, averaged over random subsets; all N, or one, need no subsets."""
    if size == len(answers_N):
        return ops.majority(answers_N, gold)
    if size == 1:
        return sum(answer == gold for answer in answers_N) / len(answers_N)
    picks: NDArray[np.int64] = rng.random((subsets, len(answers_N))).argsort(1)[:, :size]
    return sum(ops.majority([answers_N[i] for i in pick], gold) for pick in picks) / subsets
