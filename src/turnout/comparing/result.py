"""Result of a comparison."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from turnout.runs.result import Result


class Comparison(Result):
    """Runs side by side, layer by layer, with differences from the reference; an undefined figure is None."""

    FILE, VERB = "compare.json", "compare"

    @property
    def layers(self) -> tuple[dict[str, Any], ...]:
        """One dict for each layer of the reference run."""
        return tuple(self._content["layers"])

    @property
    def pairs(self) -> tuple[dict[str, Any] | None, ...]:
        """Pairing of each run with the reference; None for the reference itself."""
        return tuple(self._content["pairs"])

    def frame(self) -> pl.DataFrame:
        """One row for each layer, run and measure: value, difference from the reference, and its interval."""
        names = [run["run"] for run in self._content["runs"]]
        rows = [
            _row(layer, name, at, measure["name"])
            for layer in self.layers
            for at, name in enumerate(names)
            for measure in self._content["measures"]
        ]
        kinds = {"layer": pl.Int64, "run": pl.String, "matched": pl.Int64, "measure": pl.String}
        return pl.DataFrame(rows, schema={**kinds, **dict.fromkeys(("value", "difference", "low", "high"), pl.Float64)})

    def title(self) -> str:
        """The names of the runs."""
        return f"Comparison of {', '.join(run['run'] for run in self._content['runs'])}"


def _row(layer: Mapping[str, Any], name: str, at: int, measure: str) -> dict[str, Any]:
    shift = layer["differences"][measure][at] or {"difference": None, "interval": None}
    low, high = shift["interval"] or (None, None)
    return {
        "layer": layer["layer"],
        "run": name,
        "matched": layer["matched"][at],
        "measure": measure,
        "value": layer[measure][at],
        "difference": shift["difference"],
        "low": low,
        "high": high,
    }
