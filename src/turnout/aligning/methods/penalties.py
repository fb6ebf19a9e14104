"""Regularisers that know of no neighbours. The paper names them and gives no formula: these are ours.

Shapes: B questions of a batch, F scores of the layers that are read, E experts of one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from turnout.aligning.methods.setting import Penalty, Setting


def l1(setting: Setting) -> Penalty:
    """Mean over the trained routers' rows of Σ|w|."""
    return lambda *_: _mean_row(setting, lambda rows: rows.abs())


def l2(setting: Setting) -> Penalty:
    """Mean over the trained routers' rows of Σw²."""
    return lambda *_: _mean_row(setting, lambda rows: rows.square())


def entropy(setting: Setting) -> Penalty:
    """Mean over the layers of the entropy of p, in nats: a router that is sure of itself pays less."""
    widths = [layer.n_experts for layer in setting.layers]

    def penalty(routing_BF: Tensor, question_B: Tensor) -> Tensor:  # noqa: ARG001  a Penalty's arguments
        parts = [torch.special.entr(p_BE).sum(1) for p_BE in routing_BF.split(widths, 1)]
        return torch.stack(parts).mean()

    return penalty


def _mean_row(setting: Setting, size: Callable[[Tensor], Tensor]) -> Tensor:
    rows = [size(tensor).sum(-1) for tensor in setting.weights.tensors.values() if tensor.dim() > 1]
    return torch.cat([row.reshape(-1) for row in rows]).mean()
