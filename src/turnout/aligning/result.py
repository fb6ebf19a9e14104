"""What an alignment did and what came of it, from a run's folder."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from turnout.errors import RunError
from turnout.runs import RunFolder

SCHEMA = 1
ALIGN_FILE = "align.json"
_ACCURACY: dict[str, Any] = {
    "domain": pl.String,
    "questions": pl.Int64,
    "before": pl.Float64,
    "after": pl.Float64,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "gained": pl.Int64,
    "lost": pl.Int64,
    "detectable": pl.Float64,
}


@dataclass(frozen=True, eq=False, repr=False)
class Alignment:
    """An alignment's result; an undefined figure is None.

    Attributes:
        path: the run's folder, if it is kept: `turnout.load(base, adapter=path)` reads the trained routers from it.
    """

    _content: Mapping[str, Any]
    path: Path | None = None

    @property
    def accuracy(self) -> dict[str, Any] | None:
        """Before and after on the evaluation questions: `overall` and `domains`; None if there were none."""
        return deepcopy(self._content["accuracy"])

    @property
    def manifold(self) -> dict[str, float]:
        """The manifold loss of the training questions, `before` and `after`."""
        return dict(self._content["manifold"])

    def frame(self) -> pl.DataFrame:
        """One row a domain, "overall" first: accuracy before and after, their difference with its interval."""
        accuracy = self._content["accuracy"]
        named = {} if accuracy is None else {"overall": accuracy["overall"], **accuracy["domains"]}
        rows = [_row(name, figures) for name, figures in named.items()]
        return pl.DataFrame(rows, schema=_ACCURACY)

    def table(self, name: str) -> pl.DataFrame:
        """`curves` (a row a step), `neighbours` (a row a training question and neighbour) or `answers` (a question).

        Raises:
            RunError: the result has no folder any more, or there is no such table.
        """
        if self.path is None:
            raise RunError(name, expected="a run's folder", received="a bare align.json", do="load the folder itself")
        return RunFolder.read(self.path).read_table(name)

    def to_dict(self) -> dict[str, Any]:
        """Exactly align.json, as a copy."""
        return deepcopy(dict(self._content))

    @classmethod
    def load(cls, path: Path | str) -> "Alignment":
        """The result in an alignment's folder.

        Raises:
            RunError: no complete run or no alignment there, or one of another schema.
        """
        folder = RunFolder.read(path)
        if not (folder.path / ALIGN_FILE).exists():
            raise RunError(path, expected=f"a run with {ALIGN_FILE}", received="one without", do="see turnout align")
        content = folder.read_json(ALIGN_FILE)
        if content.get("schema") != SCHEMA:
            raise RunError(path, expected=f"an alignment of schema {SCHEMA}", received=content.get("schema"))
        return cls(content, Path(path))

    def __repr__(self) -> str:
        head = f"Alignment of {self._content['model']['id']} by {self._content['config']['method']}"
        return f"{head}\n{self.frame()}"


def _row(name: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    low, high = figures["interval"] or (None, None)
    return {"domain": name, **{n: figures[n] for n in figures if n in _ACCURACY}, "low": low, "high": high}
