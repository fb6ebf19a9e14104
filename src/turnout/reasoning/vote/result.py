"""What voting found: votes.json as an object."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from turnout.errors import RunError
from turnout.reasoning.vote.config import VoteConfig
from turnout.runs import RunFolder
from turnout.tasks.exercises import Exercise

SCHEMA, VOTES_FILE, ANSWERS = 1, "votes.json", "answers"


@dataclass(frozen=True, eq=False, repr=False)
class Votes:
    """pass@n and majority votes by number of samples.

    Attributes:
        path: the run's folder.
        already_complete: the folder held this run, finished; nothing was computed.
    """

    _content: Mapping[str, Any]
    path: Path
    already_complete: bool = False

    def frame(self) -> pl.DataFrame:
        """One row a number of samples: `pass`, `majority`, each with `_low` and `_high`."""
        rows = []
        for row in self._content["votes"]:
            one = {"samples": row["samples"]}
            for name in ("pass", "majority"):
                low, high = row[f"{name}_interval"]
                one |= {name: row[name], f"{name}_low": low, f"{name}_high": high}
            rows.append(one)
        return pl.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Exactly votes.json, as a copy."""
        return deepcopy(dict(self._content))

    @classmethod
    def load(cls, path: Path | str, *, already_complete: bool = False) -> "Votes":
        """The votes in a complete run's folder.

        Raises:
            RunError: no complete run there, or none of voting.
        """
        folder = RunFolder.read(path)
        if not (folder.path / VOTES_FILE).exists():
            raise RunError(path, expected=f"a run with {VOTES_FILE}", received="one without", do="see turnout vote")
        return cls(folder.read_json(VOTES_FILE), folder.path, already_complete)


def content_of(
    described: Mapping[str, Any],
    tasks: str,
    config: VoteConfig,
    exercises: Sequence[Exercise],
    said: Sequence[Sequence[str | None]],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """votes.json."""
    answers = [answer for one in said for answer in one]
    return {
        "schema": SCHEMA,
        "model": dict(described),
        "tasks": tasks,
        "config": config.describe(),
        "problems": len(exercises),
        "no_answer": sum(answer is None for answer in answers) / len(answers),
        "votes": [dict(row) for row in rows],
    }
