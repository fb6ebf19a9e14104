"""Routed experts on a CPU: tokens sorted by expert, one contiguous product an expert.

transformers dispatches every fused experts module through a registry; this file adds the implementation "turnout" to
it. It computes what "eager" computes, in another order of work. On other devices than the CPU it hands over to
transformers' own "grouped_mm", which is the faster one there.

Shapes: T tokens, K chosen experts a token, E experts, H hidden size, I expert width, R rows: (token, choice) pairs that
reach an expert, sorted by expert.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

NAME = "turnout"


class FusedExperts(Protocol):
    """What transformers' `use_experts_implementation` promises of an experts module.

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
        """Normalise an expert's output, where `has_post_expert_norm`."""
        ...


_real_tokens: ContextVar[Tensor | None] = ContextVar("real_tokens", default=None)


@contextmanager
def real_tokens(mask_T: Tensor) -> Iterator[None]:
    """Within it, tokens where the flattened mask is False (padding) reach no expert: their expert output is 0."""
    token = _real_tokens.set(mask_T)
    try:
        yield
    finally:
        _real_tokens.reset(token)


def set_fast_experts(model: PreTrainedModel) -> None:
    """Use the "turnout" experts in `model` from now on, for inference and training; saved checkpoints do not show it.

    A model whose experts are not on the CPU, or do not go through transformers' registry, stays as it is.
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

    An index outside 0…E−1 stands for no expert. Differentiable in hidden states, weights and every parameter.
    """
    if hidden_TH.device.type != "cpu":
        return grouped_mm_experts_forward(experts, hidden_TH, index_TK, weight_TK)
    n_experts, top_k = experts.num_experts, index_TK.shape[-1]
    expert_R, order_R = torch.sort(_without_padding(index_TK, n_experts).reshape(-1), stable=True)
    ends_E = torch.searchsorted(expert_R, torch.arange(n_experts, device=expert_R.device), right=True).tolist()
    order_R = order_R[: ends_E[-1]]
    inner_RI = _activate(experts, _products(experts, "up", hidden_TH.index_select(0, order_R // top_k), ends_E))
    out_RH = _products(experts, "down", inner_RI, ends_E)
    if experts.has_post_expert_norm:
        out_RH = experts.post_expert_norm(out_RH)
    out_RH = out_RH * weight_TK.reshape(-1, 1).index_select(0, order_R)
    rows = out_RH.new_zeros(index_TK.numel(), out_RH.shape[-1]).index_copy(0, order_R, out_RH)
    return rows.view(*index_TK.shape, -1).sum(1).to(hidden_TH.dtype)


def _without_padding(index_TK: Tensor, n_experts: int) -> Tensor:
    """The indices, those of padding replaced by E (no expert)."""
    real_T = _real_tokens.get()
    if real_T is None or real_T.numel() != index_TK.shape[0]:
        return index_TK
    return index_TK.masked_fill(~real_T.reshape(-1, 1), n_experts)


def _activate(experts: FusedExperts, up_RI: Tensor) -> Tensor:
    return experts._apply_gate(up_RI) if experts.has_gate else experts.act_fn(up_RI)


def _products(experts: FusedExperts, which: str, rows: Tensor, ends_E: list[int]) -> Tensor:
    """Each expert's rows (those before its end and after the expert before it) times that expert's matrix."""
    name = "down_proj" if which == "down" else "gate_up_proj" if experts.has_gate else "up_proj"
    # unbind, not [e]: the gradient of an index is a tensor as large as all experts, once an expert
    matrices = getattr(experts, name).unbind(0)
    biases = getattr(experts, f"{name}_bias").unbind(0) if experts.has_bias else [None] * len(matrices)
    spans = [(e, start, end) for e, (start, end) in enumerate(pairwise([0, *ends_E])) if end > start]
    outs = []
    for e, start, end in spans:
        matrix = matrices[e].t() if experts.is_transposed else matrices[e]
        outs.append(linear(rows[start:end], matrix, biases[e]))
    if not outs:
        return rows.new_zeros(0, matrices[0].shape[1 if experts.is_transposed else 0])
    return torch.cat(outs)


def _on_cpu(model: PreTrainedModel) -> bool:
    """No weight on another device; "meta" ones are offloaded and come back wherever they are needed."""
    return all(p.device.type in ("cpu", "meta") for p in model.parameters())


def _implementations(model: PreTrainedModel) -> dict[str, str | None]:
    """The experts implementation of the model and of its parts, in the form that `set_experts_implementation` takes."""
    parts = {key: getattr(model.config, key, None) for key in model.config.sub_configs}
    return {
        "": model.config._experts_implementation,
        **{key: part._experts_implementation for key, part in parts.items() if part is not None},
    }


ALL_EXPERTS_FUNCTIONS.register(NAME, sorted_experts)
