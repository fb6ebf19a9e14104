"""What measuring coupling found: coupling.json as an object, and its tables.

Shapes: N routed experts of a layer.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import torch

from turnout.coupling.norms import LayerNorms
from turnout.coupling.pairing import dominant
from turnout.errors import RunError
from turnout.runs import RunFolder

SCHEMA = 1
COUPLING_FILE = "coupling.json"


@dataclass(frozen=True, eq=False, repr=False)
class CouplingResult:
    """How far routers and experts of a model answer to each other; an undefined figure is None.

    Attributes:
        path: the run's folder, if it lies on disk.
    """

    _content: Mapping[str, Any]
    path: Path | None = None

    @property
    def layers(self) -> tuple[dict[str, Any], ...]:
        """One dict a MoE layer: `noise_bound`, `raw` and `scale_free` figures of M, `tokens` where tasks were given."""
        return tuple(self._content["layers"])

    @property
    def overall(self) -> dict[str, Any]:
        """Means over layers with least and largest, and in how many layers the pairing beats random ones."""
        return self._content["overall"]

    @property
    def model(self) -> dict[str, Any]:
        """What was measured."""
        return self._content["model"]

    def frame(self) -> pl.DataFrame:
        """One row for each layer and scale (raw, scale_free): shares, ratio, the loss at each α, and p of each."""
        return pl.DataFrame([_row(layer, scale) for layer in self.layers for scale in ("raw", "scale_free")])

    def table(self, name: str) -> pl.DataFrame:
        """`coupling_matrix` (M) or `experts`.

        Raises:
            RunError: the result has no folder, or there is no such table.
        """
        if self.path is None:
            raise RunError(
                name, expected="a run's folder", received="a bare coupling.json", do="load the folder itself"
            )
        return RunFolder.read(self.path).read_table(name)

    def to_dict(self) -> dict[str, Any]:
        """Exactly coupling.json, as a copy."""
        return deepcopy(dict(self._content))

    @classmethod
    def load(cls, path: Path | str) -> "CouplingResult":
        """The result in a run's folder.

        Raises:
            RunError: no complete run or no measured coupling there, or one of another schema.
        """
        content = RunFolder.read(path).read_json(COUPLING_FILE)
        if content.get("schema") != SCHEMA:
            raise RunError(path, expected=f"a measured coupling of schema {SCHEMA}", received=content.get("schema"))
        return cls(content, Path(path))

    def __repr__(self) -> str:
        return f"Coupling of {self.model['id']}\n{self.frame()}"


def matrix_table(layers: Sequence[LayerNorms]) -> pa.Table:
    """One row for each layer, router row (proxy) and expert: M and scale-free M."""
    rows: dict[str, list[Any]] = {name: [] for name in _MATRIX.names}
    for found in layers:
        n, free_NN = len(found.norms_NN), found.scale_free
        rows["layer"] += [found.layer] * n * n
        rows["proxy"] += torch.arange(n).repeat_interleave(n).tolist()
        rows["expert"] += torch.arange(n).repeat(n).tolist()
        rows["norm"] += found.norms_NN.flatten().tolist()
        rows["norm_scale_free"] += free_NN.flatten().tolist()
    return pa.table(rows, schema=_MATRIX)


def experts_table(layers: Sequence[LayerNorms]) -> pa.Table:
    """One row for each layer and expert: ε, lengths, its diagonal and where that stands in its row and column.

    A rank of 1 is the largest of N; equal ones share the better rank.
    """
    rows: dict[str, list[Any]] = {name: [] for name in _EXPERTS.names}
    for found in layers:
        n, norms_NN, free_NN = len(found.norms_NN), found.norms_NN, found.scale_free
        rows["layer"] += [found.layer] * n
        rows["expert"] += list(range(n))
        rows["noise_bound"] += found.bound_N.tolist()
        rows["router_norm"] += found.router_N.tolist()
        rows["gate_norm"] += found.gate_N.tolist()
        for suffix, m_NN in (("", norms_NN), ("_scale_free", free_NN)):
            rows[f"diagonal{suffix}"] += m_NN.diagonal().tolist()
            for side, sided_NN in (("row", m_NN), ("column", m_NN.T)):
                above_N = (sided_NN > sided_NN.diagonal()[:, None]).sum(1)
                rows[f"{side}_rank{suffix}"] += (above_N + 1).tolist()
                rows[f"{side}_dominant{suffix}"] += dominant(sided_NN).tolist()
    return pa.table(rows, schema=_EXPERTS)


def _row(layer: Mapping[str, Any], scale: str) -> dict[str, Any]:
    found = layer[scale]
    row = {"layer": layer["layer"], "scale": scale, "experts": layer["experts"]}
    row["noise_bound"] = layer["noise_bound"]["value"]
    for name in ("rows", "columns", "ratio"):
        row |= {name: found[name]["value"], f"{name}_p": found[name]["p"]}
    for loss in found["loss"]:
        row |= {f"loss_{loss['alpha']:g}": loss["value"], f"loss_{loss['alpha']:g}_p": loss["p"]}
    if layer["tokens"] is not None:
        row |= {name: layer["tokens"][scale][name]["value"] for name in ("agree", "first", "correlation")}
    return row


_INT, _FLOAT, _BOOL = pa.int32(), pa.float64(), pa.bool_()
_MATRIX = pa.schema([("layer", _INT), ("proxy", _INT), ("expert", _INT), ("norm", _FLOAT), ("norm_scale_free", _FLOAT)])
_EXPERTS = pa.schema(
    [
        *((name, _INT) for name in ("layer", "expert")),
        *((name, _FLOAT) for name in ("noise_bound", "router_norm", "gate_norm")),
        *(
            (f"{name}{suffix}", kind)
            for suffix in ("", "_scale_free")
            for name, kind in (
                ("diagonal", _FLOAT),
                ("row_rank", _INT),
                ("row_dominant", _BOOL),
                ("column_rank", _INT),
                ("column_dominant", _BOOL),
            )
        ),
    ]
)
