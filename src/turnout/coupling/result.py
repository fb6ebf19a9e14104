"""Result of a measurement of coupling: coupling.json as an object, and its tables.

Shapes: N routed experts of a layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import torch

from turnout.coupling.norms import LayerNorms
from turnout.coupling.pairing import dominant
from turnout.runs.result import Result

COUPLING_FILE = "coupling.json"


class CouplingResult(Result):
    """Coupling of a model's routers with its experts; an undefined figure is None."""

    FILE, VERB = COUPLING_FILE, "coupling"

    @property
    def layers(self) -> tuple[dict[str, Any], ...]:
        """One dict for each MoE layer: `noise_bound`, `raw` and `scale_free` figures of M, `tokens` or None."""
        return tuple(self._content["layers"])

    @property
    def overall(self) -> dict[str, Any]:
        """Mean, smallest and largest of each figure over layers, and the number of layers beyond random pairings."""
        return self._content["overall"]

    @property
    def model(self) -> dict[str, Any]:
        """Description of the model."""
        return self._content["model"]

    def frame(self) -> pl.DataFrame:
        """One row for each layer and scale (raw, scale_free): shares, ratio, the loss at each α, and p of each."""
        return pl.DataFrame([_row(layer, scale) for layer in self.layers for scale in ("raw", "scale_free")])

    def title(self) -> str:
        """The model."""
        return f"Coupling of {self.model['id']}"


def matrix_table(layers: Sequence[LayerNorms]) -> pa.Table:
    """One row for each layer, router row (`proxy`) and expert: M and scale-free M."""
    rows: dict[str, list[Any]] = {name: [] for name in _MATRIX.names}
    for measured in layers:
        n, free_NN = len(measured.norms_NN), measured.scale_free
        rows["layer"] += [measured.layer] * n * n
        rows["proxy"] += torch.arange(n).repeat_interleave(n).tolist()
        rows["expert"] += torch.arange(n).repeat(n).tolist()
        rows["norm"] += measured.norms_NN.flatten().tolist()
        rows["norm_scale_free"] += free_NN.flatten().tolist()
    return pa.table(rows, schema=_MATRIX)


def experts_table(layers: Sequence[LayerNorms]) -> pa.Table:
    """One row for each layer and expert: ε, lengths, its diagonal entry and that entry's rank in its row and column.

    Rank 1 is the largest of N; equal entries share the better rank.
    """
    rows: dict[str, list[Any]] = {name: [] for name in _EXPERTS.names}
    for measured in layers:
        n, norms_NN, free_NN = len(measured.norms_NN), measured.norms_NN, measured.scale_free
        rows["layer"] += [measured.layer] * n
        rows["expert"] += list(range(n))
        rows["noise_bound"] += measured.bound_N.tolist()
        rows["router_norm"] += measured.router_N.tolist()
        rows["gate_norm"] += measured.gate_N.tolist()
        for suffix, m_NN in (("", norms_NN), ("_scale_free", free_NN)):
            rows[f"diagonal{suffix}"] += m_NN.diagonal().tolist()
            for side, sided_NN in (("row", m_NN), ("column", m_NN.T)):
                above_N = (sided_NN > sided_NN.diagonal()[:, None]).sum(1)
                rows[f"{side}_rank{suffix}"] += (above_N + 1).tolist()
                rows[f"{side}_dominant{suffix}"] += dominant(sided_NN).tolist()
    return pa.table(rows, schema=_EXPERTS)


def _row(layer: Mapping[str, Any], scale: str) -> dict[str, Any]:
    figures = layer[scale]
    row = {"layer": layer["layer"], "scale": scale, "experts": layer["experts"]}
    row["noise_bound"] = layer["noise_bound"]["value"]
    for name in ("rows", "columns", "ratio"):
        row |= {name: figures[name]["value"], f"{name}_p": figures[name]["p"]}
    for loss in figures["loss"]:
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
