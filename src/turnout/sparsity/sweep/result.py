"""What a sweep found: sweep.json as an object, and its tables."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from turnout.errors import RunError
from turnout.runs import RunFolder
from turnout.sparsity.analysis.frontier import FRONTIER_FILE
from turnout.sparsity.sweep.grid import Trial

SCHEMA, SWEEP_FILE = 1, "sweep.json"
_AUDITED = ("coverage", "gini", "jaccard_mean")


@dataclass(frozen=True, eq=False, repr=False)
class SweepResult:
    """Every trial of a sweep with what it found, failures included.

    Attributes:
        path: the sweep's folder.
        already_complete: the folder held this sweep, finished; nothing was computed.
    """

    _content: Mapping[str, Any]
    path: Path
    already_complete: bool = False

    @property
    def trials(self) -> tuple[dict[str, Any], ...]:
        """One dict a trial: shape, costs, `found` (None where it failed) and `error`."""
        return tuple(self._content["trials"])

    @property
    def failed(self) -> tuple[dict[str, Any], ...]:
        """Trials that failed, each with its error."""
        return tuple(trial for trial in self.trials if trial["error"] is not None)

    def frame(self) -> pl.DataFrame:
        """Tidy: one row a (trial, task, metric); failed trials have none."""
        return pl.DataFrame(_metrics(self.trials), schema=_METRICS, orient="row")

    def shapes(self) -> pl.DataFrame:
        """One row a trial: shape, parameters, FLOPs, tpp and whether it failed."""
        return pl.DataFrame([_row(trial) for trial in self.trials], infer_schema_length=None)

    def frontier(self) -> dict[str, Any]:
        """What the trials say together, frontier.json: `turnout.sparsity.analysis.frontier.frontier`."""
        return RunFolder.read(self.path).read_json(FRONTIER_FILE)

    def to_dict(self) -> dict[str, Any]:
        """Exactly sweep.json, as a copy."""
        return deepcopy(dict(self._content))

    @classmethod
    def load(cls, path: Path | str, *, already_complete: bool = False) -> "SweepResult":
        """The sweep in a complete run's folder.

        Raises:
            RunError: no complete run there, no sweep, or one of another schema.
        """
        content = RunFolder.read(path).read_json(SWEEP_FILE)
        if content.get("schema") != SCHEMA:
            raise RunError(path, expected=f"a sweep of schema {SCHEMA}", received=content.get("schema"))
        return cls(content, Path(path), already_complete)


_METRICS = {
    "trial": pl.String,
    "shape": pl.String,
    "seed": pl.Int64,
    "task": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
}


def gather(
    trials: Sequence[Trial], left_out: Sequence[str], outcomes: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """sweep.json's content and the tables; it holds no times, so that every engine writes the same bytes."""
    described = [_described(trial, outcome) for trial, outcome in zip(trials, outcomes, strict=True)]
    content = {"schema": SCHEMA, "left_out": list(left_out), "trials": described}
    metrics = pl.DataFrame(_metrics(described), schema=_METRICS, orient="row")
    shapes = pl.DataFrame([_row(trial) for trial in described], infer_schema_length=None)
    return content, {"metrics": metrics.to_arrow(), "trials": shapes.to_arrow()}


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
        found = trial["found"]
        if found is None:
            continue
        values: list[tuple[str, str, float]] = []
        if found["training_loss"] is not None:
            values.append(("training", "loss", found["training_loss"]))
        values += [(source, "held_out_loss", loss) for source, loss in found["held_out_loss"].items()]
        for task, figures in found["tasks"].items():
            values += [(task, name, value) for name, value in figures.items() if isinstance(value, int | float)]
        if found["audit"] is not None:
            values += [("audit", name, found["audit"]["overall"][name]["mean"]) for name in _AUDITED]
        rows += [(trial["name"], trial["shape"], trial["seed"], *value) for value in values]
    return rows
