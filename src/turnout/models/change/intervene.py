"""Interventions on routers: mask experts, add to logits, replace applied weights, choose another K.

Each change is applied inside the router's own forward, before the model's own scoring and choice (softmax or sigmoid,
groups, correction bias, normalization); it works under hooks, capture and `generate`. Each function is a context
manager that restores the model, also after an exception.

Shapes: T tokens, E routed experts of a layer, K chosen experts, G groups of experts.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from turnout.errors import ModelError
from turnout.models.forward.router_forward import Change, Output, changed, where
from turnout.models.wrap.anatomy import MoE, MoELayer
from turnout.models.wrap.contract import evaluating

Experts = Mapping[int, Collection[int]]
"""Layer number → experts."""


@contextmanager
def mask(moe: MoE, experts: Experts, renormalise: bool = False) -> Iterator[None]:
    """Mask experts inside the block: no token reaches them, and K others are chosen instead.

    The logits of masked experts are the lowest finite number, and −∞ in the router's top-k; scores, weights and choice
    follow from the model's own rules over the remaining experts. Shared experts are not affected. Every output of the
    router is checked: K experts, none of them masked. Logits stay finite, so that `capture` works; p of a masked expert
    is 0.

    Args:
        moe: the model.
        experts: layer number → the experts to mask there; other layers are not affected.
        renormalise: score all experts as without a mask, then set the masked experts' scores to 0 and scale the others
            to the same sum (the paper's reading, arXiv 2601.03425). For a softmax the numbers are the same: the softmax
            over the remaining experts. For a sigmoid router they differ: weights that it does not normalize grow, and a
            correction bias is small beside the rescaled scores.

    Raises:
        ModelError: a layer without a router, an expert that does not exist, fewer than K experts left (in the groups
            that a token may choose from), or a router whose choice the mask does not change.
    """
    by_number = {layer.layer: layer for layer in moe.layers}
    changes = []
    for number, masked in experts.items():
        layer = _layer(by_number, number, moe)
        banned_E = _banned(layer, masked)
        if banned_E.any():
            changes.append((layer, _renormalised(layer, banned_E) if renormalise else _masked(layer, banned_E)))
    with changed(changes):
        yield


@contextmanager
def add_to_logits(moe: MoE, values: Mapping[int, Tensor | Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Add to the routers' logits before the model scores them; differentiable in what is added.

    Args:
        moe: the model.
        values: layer number → what is added: a tensor that broadcasts to [T, E], or a function from the logits [T, E]
            to one. T is the flattened batch, padding included.
    """
    by_number = {layer.layer: layer for layer in moe.layers}

    def adding(value: Tensor | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda logits_TE: logits_TE + (value(logits_TE) if callable(value) else value).to(logits_TE)

    changes = [(_layer(by_number, number, moe), Change(logits=adding(value))) for number, value in values.items()]
    with changed(changes):
        yield


@contextmanager
def replace_weights(moe: MoE, values: Mapping[int, Tensor | Callable[[Tensor, Tensor], Tensor]]) -> Iterator[None]:
    """Apply other weights to the chosen experts; the choice itself stays the router's own.

    Args:
        moe: the model.
        values: layer number → a tensor [E], the weight of each expert wherever it is chosen, or a function from
            (weights [T, K], indices [T, K]) to weights [T, K].
    """
    by_number = {layer.layer: layer for layer in moe.layers}

    def replacing(value: Tensor | Callable[[Tensor, Tensor], Tensor]) -> Callable[[Output], Output]:
        def output(original: Output) -> Output:
            logits_TE, weights_TK, index_TK = original
            new_TK = value(weights_TK, index_TK) if callable(value) else value.to(index_TK.device)[index_TK]
            if new_TK.shape != weights_TK.shape:
                expected, received = f"weights of shape {list(weights_TK.shape)}", f"{list(new_TK.shape)}"
                raise ModelError("replace_weights", expected=expected, received=received)
            return logits_TE, new_TK.to(weights_TK), index_TK

        return output

    changes = [(_layer(by_number, number, moe), Change(output=replacing(value))) for number, value in values.items()]
    with changed(changes):
        yield


@contextmanager
def with_top_k(moe: MoE, k: int) -> Iterator[MoE]:
    """Let every router choose `k` experts inside the block; yields the MoE with `top_k` = `k` in each layer.

    A short forward checks that each router returns `k`.

    Raises:
        ModelError: `k` is not 1…E, more than the experts in the groups that a token may choose from, or a router that
            ignores its `top_k`.
    """
    with ExitStack() as stack:
        for layer in moe.layers:
            _check_top_k(layer, k)
            stack.callback(setattr, layer.router, "top_k", layer.router.top_k)
            layer.router.top_k = k  # type: ignore[assignment]  # nn.Module says Tensor | Module
        for layer, returned in _returned_k(moe):
            if returned != k:
                received = f"{returned}: {type(layer.router).__name__} does not follow its top_k"
                expected = f"{k} chosen experts with top_k = {k}"
                raise ModelError(where(layer), expected=expected, received=received)
        yield replace(moe, layers=tuple(replace(layer, top_k=k) for layer in moe.layers))


def fewest_left(layer: MoELayer, masked: Collection[int]) -> int:
    """The smallest number of experts that a token can still choose from if `masked` are masked.

    Where the router chooses groups first, this is the number in the groups with the fewest experts left; a group with
    none left is chosen last.
    """
    n_groups, n_chosen = _groups(layer.router)
    width = layer.n_experts // n_groups
    removed = set(masked)
    left_G = [sum(e not in removed for e in range(g * width, (g + 1) * width)) for g in range(n_groups)]
    return sum(sorted(left for left in left_G if left)[:n_chosen])


def _masked(layer: MoELayer, banned_E: Tensor) -> Change:
    return Change(
        logits=lambda logits_TE: _with_lowest(logits_TE, banned_E),
        banned_E=banned_E,
        output=lambda output: _checked(layer, banned_E, output),
    )


def _renormalised(layer: MoELayer, banned_E: Tensor) -> Change:
    """Scores over all experts, those of masked experts set to 0, the rest scaled to the same sum."""
    if layer.scoring == "softmax":  # zeroed and rescaled it is the softmax over the rest
        return _masked(layer, banned_E)

    def rescaled(scores_TE: Tensor) -> Tensor:
        left_TE = scores_TE.masked_fill(banned_E.to(scores_TE.device), 0.0)
        total_T1, left_T1 = scores_TE.sum(-1, keepdim=True), left_TE.sum(-1, keepdim=True)
        return left_TE * (total_T1 / left_T1.clamp_min(torch.finfo(left_T1.dtype).tiny))

    def output(original: Output) -> Output:
        logits_TE, weights_TK, index_TK = _checked(layer, banned_E, original)
        return _with_lowest(logits_TE, banned_E), weights_TK, index_TK

    return Change(sigmoid=rescaled, banned_E=banned_E, output=output)


def _with_lowest(logits_TE: Tensor, banned_E: Tensor) -> Tensor:
    """Set banned logits to the lowest finite number: its softmax or sigmoid is exactly 0, and no ∞ − ∞ can follow."""
    return logits_TE.masked_fill(banned_E.to(logits_TE.device), torch.finfo(logits_TE.dtype).min)


def _checked(layer: MoELayer, banned_E: Tensor, output: Output) -> Output:
    """The router's output, if it chose K experts and none of the masked ones."""
    index_TK = output[2]
    if index_TK.shape[1] != layer.top_k:
        raise ModelError(where(layer), expected=f"{layer.top_k} chosen experts", received=index_TK.shape[1])
    wrong_TK = banned_E.to(index_TK.device)[index_TK.long()]
    if wrong_TK.any():
        received = f"expert {int(index_TK[wrong_TK][0])}, chosen by {type(layer.router).__name__}"
        raise ModelError(where(layer), expected="no masked expert to be chosen", received=received)
    return output


def _returned_k(moe: MoE) -> list[tuple[MoELayer, int]]:
    """The number of experts that each router chooses, from a short forward."""
    returned: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(_: nn.Module, __: object, output: Output) -> None:
            returned[name] = output[2].shape[1]

        return keep

    handles = [layer.router.register_forward_hook(hook(layer.name)) for layer in moe.layers]
    ids = torch.zeros(1, 2, dtype=torch.int64, device=moe.model.get_input_embeddings().weight.device)
    try:
        with evaluating(moe.model):
            moe.model(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return [(layer, returned[layer.name]) for layer in moe.layers]


def _check_top_k(layer: MoELayer, k: int) -> None:
    n_groups, n_chosen = _groups(layer.router)
    largest = layer.n_experts // n_groups * min(n_chosen, n_groups)
    if not 1 <= k <= largest:
        reach = f"{largest} experts" + (f", those of {n_chosen} of its {n_groups} groups" if n_groups > 1 else "")
        raise ModelError(where(layer), expected=f"K from 1 to {reach}", received=k)
    if not isinstance(getattr(layer.router, "top_k", None), int):
        received = f"{type(layer.router).__name__} without one"
        raise ModelError(where(layer), expected="a router with the attribute top_k", received=received)


def _groups(router: Any) -> tuple[int, int]:
    """Number of a router's groups of experts, and of those that a token chooses from; (1, 1) without groups."""
    if getattr(router, "topk_method", None) == "greedy":
        return 1, 1
    n_groups = getattr(router, "num_group", None) or getattr(router, "n_group", None)
    n_chosen = getattr(router, "topk_group", None)
    return (n_groups, n_chosen) if isinstance(n_groups, int) and isinstance(n_chosen, int) else (1, 1)


def _banned(layer: MoELayer, masked: Collection[int]) -> Tensor:
    for expert in masked:
        if not 0 <= expert < layer.n_experts:
            raise ModelError(where(layer), expected=f"an expert from 0 to {layer.n_experts - 1}", received=expert)
    left = fewest_left(layer, masked)
    if left < layer.top_k:
        received = f"{left} after masking {len(set(masked))} of {layer.n_experts}"
        if _groups(layer.router)[0] > 1:
            received += " (in the groups that a token may choose from)"
        raise ModelError(where(layer), expected=f"at least K = {layer.top_k} experts left", received=received)
    banned_E = torch.zeros(layer.n_experts, dtype=torch.bool)
    banned_E[sorted(set(masked))] = True
    return banned_E


def _layer(by_number: Mapping[int, MoELayer], number: int, moe: MoE) -> MoELayer:
    if number not in by_number:
        raise ModelError(moe.model_id, expected=f"a MoE layer of {sorted(by_number)}", received=number)
    return by_number[number]
