"""Result of a sweep: sweep.json as an object, and its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl
import pyarrow as pa

from turnout.runs import RunFolder
from turnout.runs.result import Result
from turnout.sparsity.analysis.frontier import FRONTIER_FILE
from turnout.sparsity.sweep.grid import Grid, Trial

SCHEMA, SWEEP_FILE = 1, "sweep.json"
_AUDITED = ("coverage", "gini", "jaccard_mean")
_METRICS = {
    "trial": pl.String,
    "shape": pl.String,
    "seed": pl.Int64,
    "task": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
}


class SweepResult(Result):
    """Every trial of a sweep with its results, failed ones included."""

    FILE, VERB = SWEEP_FILE, "sweep"

    @property
    def trials(self) -> tuple[dict[str, Any], ...]:
        """One dict a trial: shape, costs, `found` (its results; None if it failed) and `error`."""
        return tuple(self._content["trials"])

    @property
    def failed(self) -> tuple[dict[str, Any], ...]:
        """Trials that failed, each with its error."""
        return tuple(trial for trial in self.trials if trial["error"] is not None)

    def frame(self) -> pl.DataFrame:
        """Tidy: one row a (trial, task, metric); failed trials have none."""
        return pl.DataFrame(_metrics(self.trials), schema=_METRICS, orient="row")

    def shapes(self) -> pl.DataFrame:
        """One row a trial: shape, parameters, FLOPs, tpp and error."""
        return pl.DataFrame([_row(trial) for trial in self.trials], infer_schema_length=None)

    def frontier(self) -> dict[str, Any]:
        """The analysis of all trials, frontier.json: `turnout.sparsity.analysis.frontier.frontier`."""
        assert self.path is not None
        return RunFolder.read(self.path).read_json(FRONTIER_FILE)

    def title(self) -> str:
        """The numbers of trials and failures."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"Sweep of {len(self.trials)} trials{failed}"


def content_of(grid: Grid, outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """sweep.json's content. It contains no times, so that every engine writes the same bytes.

    Args:
        grid: the trials.
        outcomes: result.json or error.json of each.
    """
    trials = [_described(trial, outcome) for trial, outcome in zip(grid.trials, outcomes, strict=True)]
    return {"schema": SCHEMA, "left_out": list(grid.left_out), "trials": trials}


def sweep_tables(content: Mapping[str, Any]) -> dict[str, pa.Table]:
    """`tables/metrics.parquet` and `tables/trials.parquet`, from sweep.json's content."""
    result = SweepResult(content)
    return {"metrics": result.frame().to_arrow(), "trials": result.shapes().to_arrow()}


def _described(trial: Trial, outcome: Mapping[str, Any]) -> dict[str, Any]:
    model, schedule = trial.recipe.model, trial.recipe.schedule
    assert model is not None
    return {
        "name": trial.name,
        "shape": trial.shape,
        "seed": trial.recipe.seed,
        "hidden_size": model.hidden_size,
        "layers": model.layers,
        "experts": model.experts,
        "top_k": model.top_k,
        "expert_width": model.expert_width,
        "dense": model.experts == 1,
        "sparsity": 1 - model.top_k / model.experts,
        "learning_rate": schedule.learning_rate,
        "initializer_range": model.options.get("initializer_range"),
        "tokens": schedule.tokens,
        "parameters": asdict(trial.parameters),
        "flops": trial.flops,
        "tpp": trial.tpp,
        "found": None if "error" in outcome else dict(outcome),
        "error": outcome.get("error"),
    }


def _row(trial: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in trial.items() if key not in ("parameters", "found", "error")}
    return flat | dict(trial["parameters"]) | {"error": trial["error"]}


def _metrics(trials: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for trial in trials:
        results = trial["found"]
        if results is None:
            continue
        values: list[tuple[str, str, float]] = []
        if results["training_loss"] is not None:
            values.append(("training", "loss", results["training_loss"]))
        values += [(source, "held_out_loss", loss) for source, loss in results["held_out_loss"].items()]
        for task, figures in results["tasks"].items():
            values += [(task, name, value) for name, value in figures.items() if isinstance(value, int | float)]
        if results["audit"] is not None:
            values += [("audit", name, results["audit"]["overall"][name]["mean"]) for name in _AUDITED]
        rows += [(trial["name"], trial["shape"], trial["seed"], *value) for value in values]
    return rows
