"""Result of a masking run: masking.json as an object, and its tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from turnout.masking.effects import Measure
from turnout.masking.sets import MaskSet, Target
from turnout.runs.result import Result

SCHEMA = 1
MASKING_FILE = "masking.json"
MEASURES = ("accuracy", "logprob", "generated", "no_answer", "bits_per_byte")
_EFFECTS: dict[str, pl.DataType | type[pl.DataType]] = {
    "layer": pl.String,
    "set": pl.String,
    "size": pl.Int64,
    "removed_mass": pl.Float64,
    "measure": pl.String,
    "value": pl.Float64,
    "drop": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "random_mean": pl.Float64,
    "p_random": pl.Float64,
    "p_matched": pl.Float64,
    "predicted": pl.Float64,
    "effect": pl.Float64,
    "effect_low": pl.Float64,
    "effect_high": pl.Float64,
}


class Masking(Result):
    """A masking run's result; an undefined figure is None."""

    FILE, VERB = MASKING_FILE, "mask"

    @property
    def targets(self) -> tuple[dict[str, Any], ...]:
        """One dict for each layer that was masked, and for all at once."""
        return tuple(self._content["targets"])

    @property
    def baseline(self) -> dict[str, float | None]:
        """Every measure without a mask."""
        return self._content["baseline"]

    def frame(self) -> pl.DataFrame:
        """One row for each target, set and measure: value, drop, controls, effect, with intervals."""
        rows = [
            _row(target["layer"], entry, measure, effect)
            for target in self.targets
            for entry in target["sets"]
            for measure, effect in entry["measures"].items()
        ]
        return pl.DataFrame(rows, schema=_EFFECTS)

    def title(self) -> str:
        """The model and the number of questions."""
        return f"Masking of {self._content['model']['id']}: {self._content['questions']} questions"


def masking_table(targets: Sequence[Target], values: Sequence[Mapping[str, Sequence[float | None]]]) -> pa.Table:
    """One row for each target and set: the masked experts, their gate mass, and every measure under the mask."""
    rows: dict[str, list[Any]] = {name: [] for name in _MASKING.names}
    for target, of_target in zip(targets, values, strict=True):
        for j, masked in enumerate(target.sets):
            row = {**describe_set(target, masked), **{name: of_target[name][j] for name in MEASURES}}
            for name in _MASKING.names:
                rows[name].append(row[name])
    return pa.table(rows, schema=_MASKING)


def describe_set(target: Target, masked: MaskSet) -> dict[str, Any]:
    """What one set is: kind, number, experts by layer, size and the gate mass that it removes."""
    return {
        "layer": str(target.name),
        "set": masked.kind,
        "number": masked.number,
        "size": masked.size,
        "experts": [{"layer": n, "expert": e} for n, experts in masked.experts.items() for e in experts],
        "removed_mass": target.mass(masked),
        "removed_mass_last": target.mass(masked, last=True),
    }


def figures(measures: Mapping[str, Measure], written: Any, n_sets: int) -> dict[str, list[float | None]]:
    """Each of `MEASURES` under each set; None where nothing was measured."""
    entry: dict[str, list[float | None]] = {name: [None] * n_sets for name in MEASURES}
    for name, measure in measures.items():
        entry[name] = (measure.value_SN.sum(0) / measure.weight_S.sum()).tolist()
    if written is not None:
        entry["no_answer"] = (written == -1).mean(0).tolist()
    return entry


def effects_table(entry: Masking) -> pa.Table:
    """`Masking.frame()` as a table to store."""
    return entry.frame().to_arrow().cast(_EFFECTS_SCHEMA)


def _row(layer: object, entry: Mapping[str, Any], measure: str, effect: Mapping[str, Any]) -> dict[str, Any]:
    low, high = effect["interval"] or (None, None)
    effect_low, effect_high = effect["effect_interval"] or (None, None)
    return {
        "layer": str(layer),
        "set": entry["set"],
        "size": entry["size"],
        "removed_mass": entry["removed_mass"],
        "measure": measure,
        "value": effect["value"],
        "drop": effect["drop"],
        "low": low,
        "high": high,
        "random_mean": effect.get("random", {}).get("mean_drop"),
        "p_random": effect.get("random", {}).get("p"),
        "p_matched": effect.get("matched", {}).get("p"),
        "predicted": effect["predicted"],
        "effect": effect["effect"],
        "effect_low": effect_low,
        "effect_high": effect_high,
    }


_FLOAT, _TEXT = pa.float64(), pa.string()
_MASKING = pa.schema(
    [
        ("layer", _TEXT),
        ("set", _TEXT),
        ("number", pa.int32()),
        ("size", pa.int32()),
        ("experts", pa.list_(pa.struct([("layer", pa.int32()), ("expert", pa.int32())]))),
        ("removed_mass", _FLOAT),
        ("removed_mass_last", _FLOAT),
        *((name, _FLOAT) for name in MEASURES),
    ]
)
_EFFECTS_SCHEMA = pa.schema(
    [(n, _TEXT if t == pl.String else pa.int64() if t == pl.Int64 else _FLOAT) for n, t in _EFFECTS.items()]
)
