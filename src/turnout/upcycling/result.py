"""What an upcycling made and what it cost, from the checkpoint's upcycle.json."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from turnout.errors import RunError
from turnout.runs.json_files import read_object

SCHEMA = 1
FILE = "upcycle.json"
_LOSSES: dict[str, Any] = {
    "model": pl.String,
    "loss": pl.Float64,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


@dataclass(frozen=True, eq=False, repr=False)
class Upcycled:
    """An upcycling's result; an undefined figure is None.

    Attributes:
        path: the checkpoint's folder.
    """

    _content: Mapping[str, Any]
    path: Path

    @property
    def losses(self) -> list[dict[str, Any]]:
        """Nats a token on held-out text, as `frame` has them."""
        return deepcopy(self._content["losses"])

    def frame(self) -> pl.DataFrame:
        """One row a model (dense, before fitting, fitted, random split): loss, difference from dense, its interval."""
        rows = []
        for row in self._content["losses"]:
            low, high = row["interval"] or (None, None)
            rows.append({**{n: row[n] for n in ("model", "loss", "difference")}, "low": low, "high": high})
        return pl.DataFrame(rows, schema=_LOSSES)

    def layers(self) -> pl.DataFrame:
        """One row a layer: output errors and loads before and after fitting, on held-out text."""
        return pl.DataFrame(self._content["layers"])

    def to_dict(self) -> dict[str, Any]:
        """Exactly upcycle.json, as a copy."""
        return deepcopy(dict(self._content))

    @classmethod
    def load(cls, path: Path | str) -> "Upcycled":
        """The result beside an upcycled checkpoint.

        Raises:
            RunError: no upcycle.json there, or one of another schema.
        """
        content = read_object(Path(path) / FILE, "an upcycled checkpoint")
        if content.get("schema") != SCHEMA:
            raise RunError(path, expected=f"an upcycling of schema {SCHEMA}", received=content.get("schema"))
        return cls(content, Path(path))

    def __repr__(self) -> str:
        said, asked = self._content, self._content["config"]
        head = f"{said['model']['id']} as {said['family']}, {asked['experts']} experts by {asked['method']}"
        return f"{head}\n{self.frame()}"
