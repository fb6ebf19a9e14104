"""A training's state on disk: routers, AdamW's moments, the curves so far. One safetensors file, whole or not there."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import AdamW

from turnout.runs import atomic

CURVES = ("loss", "cross_entropy", "penalty", "weight", "learning_rate", "gradient_norm")
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State after `step` steps.

    Attributes:
        step: optimiser steps taken.
        weights: the routers, by name.
        moments: AdamW's state, by "name/moment"; empty before the first step.
        curves: one row a step, columns `CURVES`.
        stopped: why training ended there, if it did before its time.
        seconds: training time so far.
    """

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    curves: Tensor
    stopped: str | None = None
    seconds: float = 0.0

    @classmethod
    def read(cls, path: Path) -> "Checkpoint | None":
        """The checkpoint in `path`; None if there is none, or a damaged one."""
        try:
            with safe_open(path, framework="pt") as file:
                said = json.loads((file.metadata() or {})["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        curves = tensors.pop("curves")
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "moments": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = tensor
        return cls(said["step"], groups["weights"], groups["moments"], curves, said["stopped"], said["seconds"])

    def write(self, path: Path) -> None:
        """Put this checkpoint in the place of the one before."""
        tensors = {f"weights/{name}": tensor for name, tensor in self.weights.items()}
        tensors |= {f"moments/{name}": tensor for name, tensor in self.moments.items()}
        state = json.dumps({"step": self.step, "stopped": self.stopped, "seconds": self.seconds})
        atomic.write_bytes(path, save({**tensors, "curves": self.curves}, metadata={"state": state}))


def moments(optimizer: AdamW, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of AdamW's state of each of `weights`."""
    state = optimizer.state
    return {
        f"{name}/{moment}": state[tensor][moment].detach().cpu().clone()
        for name, tensor in weights.items()
        if tensor in state
        for moment in _MOMENTS
    }


@torch.no_grad()
def restore(checkpoint: Checkpoint, optimizer: AdamW, weights: dict[str, Tensor]) -> None:
    """Put the checkpoint's routers into `weights` and its moments into `optimizer`."""
    for name, tensor in weights.items():
        tensor.copy_(checkpoint.weights[name])
        found = {m: checkpoint.moments[f"{name}/{m}"] for m in _MOMENTS if f"{name}/{m}" in checkpoint.moments}
        if found:
            optimizer.state[tensor] = {
                m: t.clone().to(tensor.device if m != "step" else "cpu") for m, t in found.items()
            }
