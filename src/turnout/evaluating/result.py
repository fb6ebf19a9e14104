"""Result of an evaluation: lm-evaluation-harness's own results."""

from typing import Any

import polars as pl

from turnout.runs.result import Result

EVAL_FILE, DOCUMENTS = "eval.json", "documents"


class Evaluation(Result):
    """The harness's results; `audit` is the routing of its prompts.

    Attributes:
        audit: the `Audit` of the prompts, as `turnout.evaluate` adds it; None for a result that was loaded.
    """

    FILE, VERB = EVAL_FILE, "eval"
    audit: Any = None

    @property
    def results(self) -> dict[str, Any]:
        """What `lm_eval.simple_evaluate` returned, all keys but `samples`, as JSON; NaN is None."""
        return self.to_dict()

    def frame(self) -> pl.DataFrame:
        """One row a task or group and metric: task, metric, filter, value, stderr (None where there is none)."""
        rows = [row for task, figures in self._content["results"].items() for row in _rows(task, figures)]
        columns = {
            "task": pl.String,
            "metric": pl.String,
            "filter": pl.String,
            "value": pl.Float64,
            "stderr": pl.Float64,
        }
        return pl.DataFrame(rows, schema=columns, orient="row")


def _rows(task: str, figures: dict[str, Any]) -> list[tuple[str, str, str, float, float | None]]:
    rows = []
    for key, value in figures.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        stderr = figures.get(f"{metric}_stderr,{filtered}")
        rows.append((task, metric, filtered, float(value), float(stderr) if isinstance(stderr, int | float) else None))
    return rows
