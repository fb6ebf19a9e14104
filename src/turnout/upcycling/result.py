"""Result of an upcycling: upcycle.json beside the checkpoint, as an object."""

from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import polars as pl

from turnout.runs.json_files import read_object
from turnout.runs.result import Result

SCHEMA = 1
UPCYCLE_FILE = "upcycle.json"
_LOSSES: dict[str, Any] = {
    "model": pl.String,
    "loss": pl.Float64,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


class Upcycled(Result):
    """An upcycling's result; `path` is the checkpoint's folder, which is not a run: it has no tables."""

    FILE, VERB, SCHEMA = UPCYCLE_FILE, "upcycle", SCHEMA

    @property
    def losses(self) -> list[dict[str, Any]]:
        """Loss of each model on held-out text in nats a token, as `frame` has them."""
        return deepcopy(self._content["losses"])

    def frame(self) -> pl.DataFrame:
        """One row a model (dense, before fitting, fitted, random split): loss, difference from dense, its interval."""
        rows = []
        for row in self._content["losses"]:
            low, high = row["interval"] or (None, None)
            rows.append({**{n: row[n] for n in ("model", "loss", "difference")}, "low": low, "high": high})
        return pl.DataFrame(rows, schema=_LOSSES)

    def layers(self) -> pl.DataFrame:
        """One row a layer: output errors and loads on held-out text, before and after fitting."""
        return pl.DataFrame(self._content["layers"])

    @classmethod
    def load(cls, path: Path | str, *, already_complete: bool = False) -> Self:
        """The result in the folder of an upcycled checkpoint.

        Raises:
            RunError: no upcycle.json there, or one of another schema.
        """
        path = Path(path)
        content = cls.checked(read_object(path / UPCYCLE_FILE, "an upcycled checkpoint"), path)
        return cls(content, path, already_complete=already_complete)

    def title(self) -> str:
        """Dense model, family and experts in one line."""
        model, config = self._content["model"]["id"], self._content["config"]
        return f"{model} as {self._content['family']}, {config['experts']} experts by {config['method']}"
