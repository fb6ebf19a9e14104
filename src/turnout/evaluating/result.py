"""What an evaluation found: lm-evaluation-harness's own results, from a run's folder."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from turnout.errors import RunError
from turnout.runs import RunFolder

EVAL_FILE, DOCUMENTS = "eval.json", "documents"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The harness's results; `audit` says what the routing was while its prompts were read.

    Attributes:
        results: what `lm_eval.simple_evaluate` returned, all keys but `samples`, as JSON; NaN is None.
        audit: what the recorder made of the routing: `turnout.evaluate` gives an `Audit`.
        path: the run's folder, if it is kept.
    """

    results: dict[str, Any]
    audit: Any
    path: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Exactly eval.json, as a copy."""
        return deepcopy(self.results)

    def frame(self) -> pl.DataFrame:
        """One row a task or group and metric: task, metric, filter, value, stderr (None where there is none)."""
        rows = [row for task, figures in self.results["results"].items() for row in _rows(task, figures)]
        columns = {
            "task": pl.String,
            "metric": pl.String,
            "filter": pl.String,
            "value": pl.Float64,
            "stderr": pl.Float64,
        }
        return pl.DataFrame(rows, schema=columns, orient="row")

    @classmethod
    def load(cls, path: Path | str) -> "Evaluation":
        """The results in a complete run's folder, without its audit (`turnout.auditing.Audit.load` reads that).

        Raises:
            RunError: no complete run there, or one that evaluated nothing.
        """
        folder = RunFolder.read(path)
        if not (folder.path / EVAL_FILE).exists():
            raise RunError(path, expected=f"a run with {EVAL_FILE}", received="one without", do="see turnout eval")
        return cls(folder.read_json(EVAL_FILE), None, folder.path)


def _rows(task: str, figures: dict[str, Any]) -> list[tuple[str, str, str, float, float | None]]:
    found = []
    for key, value in figures.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        stderr = figures.get(f"{metric}_stderr,{filtered}")
        found.append((task, metric, filtered, float(value), float(stderr) if isinstance(stderr, int | float) else None))
    return found
