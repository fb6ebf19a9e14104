"""Result of a training run: train.json, the trained model's folder, and the metrics table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from turnout.runs.folder import RunFolder
from turnout.runs.result import Result

TRAIN_FILE = "train.json"
MODEL = "model"


class TrainResult(Result):
    """A training run's result."""

    FILE, VERB = TRAIN_FILE, "train"

    @property
    def model(self) -> Path:
        """The folder of the trained model and its tokenizer."""
        assert self.path is not None  # a training run has a folder
        return self.path / MODEL

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return int(self._content["steps"])

    @property
    def tokens(self) -> int:
        """Training tokens of the whole run."""
        return int(self._content["tokens"])

    @property
    def losses(self) -> dict[str, float]:
        """Held-out loss by source at the end, in nats per token."""
        return dict(self._content["held_out_loss"])

    @property
    def resumed_at(self) -> int:
        """The step that the call continued from; 0 if it began the run, or the run was complete before."""
        if self.already_complete or self.path is None:
            return 0
        timings = RunFolder.read(self.path).manifest["timings"]
        return int(timings["from_step"]) if isinstance(timings, Mapping) else 0

    def frame(self) -> pl.DataFrame:
        """The metrics: one row for each step, metric and source; no source for metrics of the training text."""
        return self.table("metrics")

    def to_dict(self) -> dict[str, Any]:
        """train.json, and where the run and its model are, whether it was complete, and where it resumed."""
        return super().to_dict() | {
            "path": str(self.path),
            "model": str(self.model),
            "already_complete": self.already_complete,
            "resumed_at": self.resumed_at,
        }

    def title(self) -> str:
        """The trained model's folder."""
        return f"Training of {self.model}"

    def summary(self) -> str:
        """Steps, tokens and held-out losses, in two lines."""
        state = "was complete already" if self.already_complete else "trained"
        resumed = f", resumed at step {self.resumed_at:,}" if self.resumed_at else ""
        losses = ", ".join(f"{name} {loss:.3f}" for name, loss in self.losses.items())
        head = f"{self.model} {state}: {self.steps:,} steps, {self.tokens:,} tokens{resumed}"
        return f"{head}\nheld-out loss in nats per token: {losses}"


def metrics_table(history: Sequence[Mapping[str, float]], sources: Sequence[str]) -> pl.DataFrame:
    """The Trainer's log history as a tidy table: one row for each step, metric and source.

    `source` is null for metrics of the training text. Figures that callbacks add to the logs ("coupling/erc") keep
    their names. Shares of time ("overhead/…") are left out: tables contain no times.
    """
    keys: dict[str, tuple[str, str | None]]
    keys = {name: (name, None) for name in ("loss", "lm_loss", "learning_rate", "grad_norm")}
    keys |= {f"eval_{source}_loss": ("held_out_loss", source) for source in sources}
    keys |= {key: (key, None) for entry in history for key in entry if "/" in key and not key.startswith("overhead/")}
    rows = {(entry["step"], *keys[key]): float(entry[key]) for entry in history for key in entry if key in keys}
    names = {"step": pl.Int64, "metric": pl.String, "source": pl.String, "value": pl.Float64}
    return pl.DataFrame([(*where, value) for where, value in rows.items()], schema=names, orient="row")
