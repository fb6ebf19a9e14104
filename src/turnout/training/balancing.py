"""Load-balancing loss of each layer, on the experts that the router really chose.

Switch Transformers' loss (arXiv 2101.03961, equations 4–6) for top-k routing, in any family. transformers sums over all
layers before it multiplies, so that an idle expert of one layer goes unnoticed if the expert of that number is busy in
another layer; some families have no such loss at all.

Shapes: T tokens, E experts, K experts chosen for a token.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from turnout.models.wrap.anatomy import MoELayer


def layer_balancing_loss(scores_TE: Tensor, chosen_TK: Tensor) -> Tensor:
    """E · Σ_e f_e · P_e: f_e expert e's share of all choices, P_e its mean score; 1 at balance, at most E."""
    n_experts = scores_TE.shape[-1]
    counts_E = torch.bincount(chosen_TK.reshape(-1), minlength=n_experts)
    return n_experts * (counts_E / chosen_TK.numel() * scores_TE.mean(0)).sum()


@contextmanager
def layer_balancing(layers: Sequence[MoELayer]) -> Iterator[list[Tensor]]:
    """Inside, a forward appends each layer's balancing loss, 0-dimensional and differentiable, to the list."""
    losses: list[Tensor] = []
    hooks = [layer.router.register_forward_hook(_append_loss(layer, losses)) for layer in layers]
    try:
        yield losses
    finally:
        for hook in hooks:
            hook.remove()


def _append_loss(layer: MoELayer, losses: list[Tensor]) -> Any:
    def hook(_: nn.Module, __: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        logits_TE, _weights, chosen_TK = output
        losses.append(layer_balancing_loss(layer.scores(logits_TE), chosen_TK))

    return hook
