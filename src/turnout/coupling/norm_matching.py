"""Norm-matched weight decay: the control for an ERC loss that falls because router rows and gates merely shrink.

Each layer's R and W_g follow the norms that they had along another run, without that run's term.

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
_METRICS = Path("tables/metrics.parquet")

Trajectory = Mapping[int, Mapping[str, tuple[tuple[int, float], ...]]]
"""{decoder layer: {"router" or "gate": ((optimiser step, Frobenius norm), …), in order of steps}}."""


def norm_trajectory(run: str | Path) -> dict[int, dict[str, tuple[tuple[int, float], ...]]]:
    """The norms of R and W_g along a run that was trained with `--erc`, from its tables/metrics.parquet.

    Raises:
        RunError: no such table, or no norms in it.
    """
    path = Path(run) / _METRICS
    try:
        metrics = pl.read_parquet(path, glob=False)
        rows = metrics.filter(pl.col("metric").str.contains(_KEY.pattern)).sort("step")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(path, expected="the metrics of a training run", received=error) from error
    found: dict[int, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: {"router": [], "gate": []})
    for step, metric, value in rows.select("step", "metric", "value").iter_rows():
        said = _KEY.fullmatch(metric)
        if said is not None:
            found[int(said[1])][said[2]].append((step - 1, value))  # noted in a step's forward, before its update
    if not found:
        raise RunError(path, expected="norms of a coupled run", received="none", do="train that run with --erc")
    return {layer: {part: tuple(points) for part, points in of.items()} for layer, of in found.items()}


def norm_at(points: tuple[tuple[int, float], ...], step: int) -> float | None:
    """The norm after optimiser step `step`: linear between recorded steps, None before them, the last one after."""
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
    """After each optimiser step, scales each layer's R and W_g down to the norm they had in another run by that step.

    >>> trainer = Trainer(model, ..., callbacks=[NormMatchedDecay(norm_trajectory("runs/erc"))])

    Norms that are smaller already are left alone: it is a decay. So are all of them before the first recorded step.

    Raises:
        ModelError: when training begins, if the trajectory's layers are not the model's, or the weights are sharded.
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
        """Called after each optimiser step."""
        for layer in self._layers:
            for part, points in self.trajectory[layer.layer].items():
                wanted = norm_at(points, state.global_step)
                weights, norm = _part(layer, part)
                if wanted is not None and norm > wanted:
                    weights.mul_(wanted / norm)
        return control


@torch.no_grad()
def _part(layer: MoELayer, part: str) -> tuple[Tensor, float]:
    """R or W_g of a layer, to be changed in place, and its Frobenius norm."""
    if part == "router":
        rows_NH = router_rows(layer).detach()
        return rows_NH, float(torch.linalg.vector_norm(rows_NH, dtype=torch.float64))
    gate_NHI = gate_matrices(layer).detach()
    return gate_NHI, float(torch.linalg.vector_norm(ops.matrix_lengths(gate_NHI).double()))
