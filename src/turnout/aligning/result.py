"""Result of an alignment: align.json as an object."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import polars as pl

from turnout.runs.result import Result

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


class Alignment(Result):
    """An alignment's result; `turnout.load(base, adapter=alignment.path)` loads the trained routers.

    Tables: `curves` (a row a step), `neighbours` (a row a training question and neighbor), `answers` (a row an
    evaluation question).
    """

    FILE, VERB, SCHEMA = ALIGN_FILE, "align", SCHEMA

    @property
    def accuracy(self) -> dict[str, Any] | None:
        """Accuracy on the evaluation questions before and after, `overall` and by `domains`; None without them."""
        return deepcopy(self._content["accuracy"])

    @property
    def manifold(self) -> dict[str, float | None]:
        """Manifold loss of the training questions, `before` and `after`; None for a rerouting method."""
        return dict(self._content["manifold"])

    @property
    def cross_entropy(self) -> dict[str, float | None]:
        """Cross-entropy of the training questions' right letters in nats, `before` and `after`."""
        return dict(self._content["cross_entropy"])

    def frame(self) -> pl.DataFrame:
        """One row a domain, "overall" first: accuracy before and after, and their difference with its interval."""
        accuracy = self._content["accuracy"]
        named = {} if accuracy is None else {"overall": accuracy["overall"], **accuracy["domains"]}
        rows = [_row(name, figures) for name, figures in named.items()]
        return pl.DataFrame(rows, schema=_ACCURACY)

    def title(self) -> str:
        """Model and method in one line."""
        return f"{super().title()} by {self._content['config']['method']}"


def _row(name: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    low, high = figures["interval"] or (None, None)
    return {"domain": name, **{n: figures[n] for n in figures if n in _ACCURACY}, "low": low, "high": high}
