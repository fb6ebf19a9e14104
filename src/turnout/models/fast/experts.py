"""Routed experts on a CPU: tokens sorted by expert, one contiguous product per expert.

transformers dispatches every fused experts module through a registry; this file adds the implementation "turnout" to
it. It computes the same as "eager", in another order. On other devices than the CPU it calls transformers' own
"grouped_mm", which is faster there.

Shapes: T tokens, K chosen experts per token, E experts, H hidden size, I expert width, R rows: (token, choice) pairs
that reach an expert, sorted by expert.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

from turnout.models.fast.products import product

NAME = "turnout"


class FusedExperts(Protocol):
    """The experts module that transformers' `use_experts_implementation` passes to an implementation.

    Its parameters are `gate_up_proj` [E, 2I, H] (`up_proj` [E, I, H] without gate) and `down_proj` [E, H, I], the last
    two dimensions swapped where `is_transposed`, with `…_bias` beside them where `has_bias`.
    """

    num_experts: int
    has_gate: bool
    has_bias: bool
    has_post_expert_norm: bool
    is_transposed: bool

    def _apply_gate(self, gate_up_R2I: Tensor) -> Tensor: ...

    def act_fn(self, up_RI: Tensor) -> Tensor:
        """Activate an expert without gate."""
        ...

    def post_expert_norm(self, out_RH: Tensor) -> Tensor:
        """Normalize an expert's output, where `has_post_expert_norm`."""
        ...


_real_tokens: ContextVar[Tensor | None] = ContextVar("real_tokens", default=None)


@contextmanager
def real_tokens(mask_T: Tensor) -> Iterator[None]:
    """Inside the block tokens where the flattened mask is False (padding) reach no expert: their expert output is 0."""
    token = _real_tokens.set(mask_T)
    try:
        yield
    finally:
        _real_tokens.reset(token)


def set_fast_experts(model: PreTrainedModel) -> None:
    """Use the "turnout" experts in `model` from now on, in inference and training; checkpoints do not record it.

    No effect on a model whose experts are not on the CPU, or are not dispatched by transformers' registry.
    """
    if _on_cpu(model):
        model.set_experts_implementation(NAME)


@contextmanager
def fast_experts(model: PreTrainedModel) -> Iterator[None]:
    """Use the "turnout" experts in `model` inside the block; the implementation it had is restored after it."""
    before = _implementations(model)
    set_fast_experts(model)
    try:
        yield
    finally:
        if _implementations(model) != before:
            model.set_experts_implementation(before)


def sorted_experts(experts: FusedExperts, hidden_TH: Tensor, index_TK: Tensor, weight_TK: Tensor) -> Tensor:
    """Output [T, H] of fused `experts` for tokens [T, H]: Σ_k weight[t, k] · expert[index[t, k]](hidden[t]).

    An index of E means no expert. Differentiable in hidden states, weights and every parameter.
    """
    if hidden_TH.device.type != "cpu":
        return grouped_mm_experts_forward(experts, hidden_TH, index_TK, weight_TK)
    real_T = _real_tokens.get()
    if real_T is None or real_T.numel() != len(hidden_TH):
        return _sorted_experts(experts, hidden_TH, index_TK, weight_TK)
    row = real_T.nonzero().squeeze(1)
    out = _sorted_experts(experts, *(x.index_select(0, row) for x in (hidden_TH, index_TK, weight_TK)))
    return torch.zeros_like(hidden_TH).index_copy(0, row, out)


def _sorted_experts(experts: FusedExperts, hidden_TH: Tensor, index_TK: Tensor, weight_TK: Tensor) -> Tensor:
    expert_R, order_R = torch.sort(index_TK.reshape(-1), stable=True)
    ends_E = torch.searchsorted(expert_R, torch.arange(experts.num_experts), right=True).tolist()
    plain = ends_E[-1] == len(order_R) and not experts.has_post_expert_norm and not torch.is_autocast_enabled("cpu")
    if torch.is_grad_enabled() or not plain:
        return _recorded(experts, hidden_TH, order_R[: ends_E[-1]], ends_E, weight_TK)
    return _in_place(experts, hidden_TH, order_R, ends_E, weight_TK)


def _in_place(
    experts: FusedExperts, hidden_TH: Tensor, order_R: Tensor, ends_E: list[int], weight_TK: Tensor
) -> Tensor:
    """For inference: an expert's rows stay in cache from its first product to its last, which writes into the output.

    The weighted sum of a token's K rows is an embedding bag: one pass over the rows, summed in float32.
    """
    token_R, top_k = order_R // weight_TK.shape[1], weight_TK.shape[1]
    up, down = expert_matrices(experts, "up"), expert_matrices(experts, "down")
    out_RH = hidden_TH.new_empty(len(order_R), hidden_TH.shape[1])
    for expert, start, end in _spans(ends_E):
        inner = _activate(experts, product(hidden_TH.index_select(0, token_R[start:end]), *up[expert]))
        product(inner, *down[expert], out=out_RH[start:end])
    place_R = torch.empty_like(order_R)
    place_R[order_R] = torch.arange(len(order_R))
    weight_TK = weight_TK.to(out_RH.dtype)
    return embedding_bag(place_R.view(-1, top_k), out_RH, mode="sum", per_sample_weights=weight_TK)


def _recorded(
    experts: FusedExperts, hidden_TH: Tensor, order_R: Tensor, ends_E: list[int], weight_TK: Tensor
) -> Tensor:
    """For training: operations on all rows between the products, so that autograd records few of them."""
    rows = hidden_TH.index_select(0, order_R // weight_TK.shape[1])
    for which in ("up", "down"):
        matrices = expert_matrices(experts, which)
        products = [product(rows[start:end], *matrices[expert]) for expert, start, end in _spans(ends_E)]
        width = matrices[0][0].shape[1]
        rows = torch.cat(products) if products else rows.new_zeros(0, width)
        rows = _activate(experts, rows) if which == "up" else rows
    if experts.has_post_expert_norm:
        rows = experts.post_expert_norm(rows)
    rows = rows * weight_TK.reshape(-1, 1).index_select(0, order_R)
    out = rows.new_zeros(weight_TK.numel(), rows.shape[-1]).index_copy(0, order_R, rows)
    return out.view(*weight_TK.shape, -1).sum(1).to(hidden_TH.dtype)


def _spans(ends_E: list[int]) -> list[tuple[int, int, int]]:
    """(expert, start, end) of the rows of every expert that has any."""
    return [(e, start, end) for e, (start, end) in enumerate(pairwise([0, *ends_E])) if end > start]


def expert_matrices(experts: FusedExperts, which: str) -> list[tuple[Tensor, Tensor | None]]:
    """Each expert's up or down matrix, [in, out], and its bias or None."""
    name = "down_proj" if which == "down" else "gate_up_proj" if experts.has_gate else "up_proj"
    # unbind, not [e]: the gradient of an index is as large as all experts together, for each expert
    matrices = getattr(experts, name).unbind(0)
    biases = getattr(experts, f"{name}_bias").unbind(0) if experts.has_bias else [None] * len(matrices)
    return [(m if experts.is_transposed else m.t(), b) for m, b in zip(matrices, biases, strict=True)]


def _activate(experts: FusedExperts, up_R: Tensor) -> Tensor:
    return experts._apply_gate(up_R) if experts.has_gate else experts.act_fn(up_R)


def _on_cpu(model: PreTrainedModel) -> bool:
    """Whether all weights are on the CPU, or offloaded ("meta") and loaded there when needed."""
    return all(p.device.type in ("cpu", "meta") for p in model.parameters())


def _implementations(model: PreTrainedModel) -> dict[str, str | None]:
    """The experts implementation of the model and of its parts, as an argument of `set_experts_implementation`."""
    parts = {key: getattr(model.config, key, None) for key in model.config.sub_configs}
    return {
        "": model.config._experts_implementation,
        **{key: part._experts_implementation for key, part in parts.items() if part is not None},
    }


ALL_EXPERTS_FUNCTIONS.register(NAME, sorted_experts)
