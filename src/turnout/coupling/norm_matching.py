"""Norm-matched weight decay: the control for an ERC loss that falls only because router rows and gates shrink.

Each layer's R and W_g follow the norms that they had in another run, without that run's term.

Shapes: N routed experts (a router's rows), H hidden size, I expert width.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from turnout import ops
from turnout.errors import ModelError, RunError
from turnout.models.wrap.anatomy import MoELayer, read
from turnout.models.wrap.gates import gate_matrices, router_rows

_KEY = re.compile(r"coupling/layer_(\d+)/(router|gate)_norm")
METRICS = Path("tables/metrics.parquet")
"""The table of a training run that contains the norms."""

Trajectory = Mapping[int, Mapping[str, tuple[tuple[int, float], ...]]]
"""{decoder layer: {"router" or "gate": ((optimizer step, Frobenius norm), …), in order of steps}}."""


def norm_trajectory(run: str | Path) -> dict[int, dict[str, tuple[tuple[int, float], ...]]]:
    """The norms of R and W_g in a run that was trained with `--erc`, from its tables/metrics.parquet.

    Raises:
        RunError: no such table, or no norms in it.
    """
    path = Path(run) / METRICS
    try:
        metrics = pl.read_parquet(path, glob=False)
        rows = metrics.filter(pl.col("metric").str.contains(_KEY.pattern)).sort("step")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(path, expected="the metrics of a training run", received=error) from error
    norms: dict[int, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: {"router": [], "gate": []})
    for step, metric, value in rows.select("step", "metric", "value").iter_rows():
        key = _KEY.fullmatch(metric)
        if key is not None:
            norms[int(key[1])][key[2]].append((step - 1, value))  # logged in a step's forward, before its update
    if not norms:
        raise RunError(path, expected="norms of a coupled run", received="none", do="train that run with --erc")
    return {layer: {part: tuple(points) for part, points in of.items()} for layer, of in norms.items()}


def norm_at(points: tuple[tuple[int, float], ...], step: int) -> float | None:
    """The norm after optimizer step `step`: linear between recorded steps; before them None, after them the last."""
    after = bisect_left(points, step, key=lambda point: point[0])
    if after == len(points):
        return points[-1][1]
    if points[after][0] == step:
        return points[after][1]
    if after == 0:
        return None
    (left, low), (right, high) = points[after - 1], points[after]
    return low + (high - low) * (step - left) / (right - left)


class NormMatchedDecay(TrainerCallback):  # type: ignore[misc]  # Any: transformers ships no types
    """After each optimizer step, scale each layer's R and W_g down to their norms in another run at that step.

    >>> trajectory = turnout.coupling.norm_trajectory("runs/erc")
    >>> trainer = Trainer(model, ..., callbacks=[turnout.NormMatchedDecay(trajectory)])

    It only decays: norms that are smaller already, and all norms before the first recorded step, are not changed.

    Args:
        trajectory: the norms by layer and step.

    Raises:
        ModelError: when training begins, if the model lacks one of the layers, or the weights are sharded.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self._layers: tuple[MoELayer, ...] = ()

    def on_train_begin(self, *_: Any, model: Any, **__: Any) -> None:
        """Find the layers."""
        layers = read(model.get_base_model() if hasattr(model, "get_base_model") else model).layers
        missing = set(self.trajectory) - {layer.layer for layer in layers}
        if missing:
            expected = f"MoE layers {sorted(self.trajectory)}, as in the other run"
            raise ModelError("NormMatchedDecay", expected=expected, received=f"a model without {sorted(missing)}")
        if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
            raise ModelError("NormMatchedDecay", expected="whole weights", received="sharded ones")
        self._layers = tuple(layer for layer in layers if layer.layer in self.trajectory)

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002  the Trainer's names
        state: TrainerState,
        control: TrainerControl,
        **_: object,
    ) -> TrainerControl:
        """After each optimizer step."""
        for layer in self._layers:
            for part, points in self.trajectory[layer.layer].items():
                target = norm_at(points, state.global_step)
                weights, norm = _weights_and_norm(layer, part)
                if target is not None and norm > target:
                    weights.mul_(target / norm)
        return control


@torch.no_grad()
def _weights_and_norm(layer: MoELayer, part: str) -> tuple[Tensor, float]:
    """R or W_g of a layer, to be changed in place, and its Frobenius norm."""
    if part == "router":
        rows_NH = router_rows(layer).detach()
        return rows_NH, float(torch.linalg.vector_norm(rows_NH, dtype=torch.float64))
    gate_NHI = gate_matrices(layer).detach()
    return gate_NHI, float(torch.linalg.vector_norm(ops.matrix_lengths(gate_NHI).double()))
