"""The load-balancing loss, layer by layer, on the experts that were really chosen.

Switch Transformers' loss (arXiv 2101.03961, equations 4–6) for top-k routing. transformers adds up all layers before
it multiplies, so that one layer's idle expert passes if the expert of the same number is busy in another; and some
families have none at all. This one asks every layer for balance, in any family.

Shapes: T tokens, E experts, K chosen experts a token.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from turnout.models.wrap.anatomy import MoELayer


def balancing_loss(scores_TE: Tensor, chosen_TK: Tensor) -> Tensor:
    """E · Σ_e f_e · P_e: f the share of all choices that went to e, P its mean score; 1 at balance, at most E."""
    n_experts = scores_TE.shape[-1]
    counts_E = torch.bincount(chosen_TK.reshape(-1), minlength=n_experts)
    return n_experts * (counts_E / chosen_TK.numel() * scores_TE.mean(0)).sum()


@contextmanager
def balancing(layers: Sequence[MoELayer]) -> Iterator[list[Tensor]]:
    """Within it, a forward pass appends each layer's balancing loss, 0-dimensional and differentiable, to the list."""
    losses: list[Tensor] = []
    hooks = [layer.router.register_forward_hook(_note(layer, losses)) for layer in layers]
    try:
        yield losses
    finally:
        for hook in hooks:
            hook.remove()


def _note(layer: MoELayer, losses: list[Tensor]) -> Any:
    def hook(_: nn.Module, __: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        logits_TE, _weights, chosen_TK = output
        losses.append(balancing_loss(layer.scores(logits_TE), chosen_TK))

    return hook
