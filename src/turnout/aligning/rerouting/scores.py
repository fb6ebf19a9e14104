"""Between routing and router logits: ω of several layers, and the logits whose scores they are.

ω is p, the score of every expert (METHODS §2's r): which experts are chosen and with what weights they are applied
follows from it by the model's own rules, so an ω fits routers of every kind.

Shapes: B questions, E experts of a layer, F experts of all layers, one layer after another.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from turnout.models.wrap.anatomy import MoELayer

_LEAST, _MOST = 1e-30, 1 - 1e-6


def scores(layers: Sequence[MoELayer], logits_BF: Tensor) -> Tensor:
    """Scores p [B, F] of router logits; those of a layer sum to 1."""
    parts = logits_BF.split([layer.n_experts for layer in layers], 1)
    return torch.cat([layer.scores(part_BE) for layer, part_BE in zip(layers, parts, strict=True)], 1)


def logits(layers: Sequence[MoELayer], routing_BF: Tensor, own_BF: Tensor) -> Tensor:
    """Router logits [B, F] whose scores are `routing_BF`, of each layer scaled to a sum of 1.

    Of a softmax: log ω. Of a sigmoid, whose scores are divided by their sum: those whose sum is that of the question's
    own logits `own_BF`, so that an ω of its own gives its own logits; less where a score would be above 1.
    """
    widths = [layer.n_experts for layer in layers]
    parts = zip(layers, routing_BF.split(widths, 1), own_BF.split(widths, 1), strict=True)
    return torch.cat([_logits(layer, omega_BE, own_BE) for layer, omega_BE, own_BE in parts], 1)


def core(layers: Sequence[MoELayer], routing_BF: Tensor, n: int) -> Tensor:
    """[B, F]: whether an expert is among the `n` of its layer's greatest scores; ties by index."""
    parts = routing_BF.split([layer.n_experts for layer in layers], 1)
    return torch.cat([_first(part_BE, n) for part_BE in parts], 1)


def _logits(layer: MoELayer, routing_BE: Tensor, own_BE: Tensor) -> Tensor:
    share_BE = routing_BE / routing_BE.sum(1, keepdim=True)
    if layer.scoring == "softmax":
        return share_BE.clamp_min(_LEAST).log()
    total_B1 = own_BE.sigmoid().sum(1, keepdim=True).minimum(_MOST / share_BE.amax(1, keepdim=True))
    return (share_BE * total_B1).clamp(_LEAST, _MOST).logit()


def _first(routing_BE: Tensor, n: int) -> Tensor:
    place_BE = routing_BE.sort(dim=1, descending=True, stable=True).indices[:, :n]
    return torch.zeros_like(routing_BE, dtype=torch.bool).scatter(1, place_BE, True)
