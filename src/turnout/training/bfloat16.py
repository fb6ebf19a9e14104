"""Fast training under bfloat16 autocast on a CPU; a saved checkpoint does not depend on it.

Three costs there exceed what bfloat16 saves (torch 2.13). A matrix product compiles a kernel for each new shape, and
experts receive another number of tokens at every step. Attention's backward pass is several times slower than in
float32. The loss reads float32 copies of all logits many times.

Shapes: T tokens, V vocabulary, K experts chosen for a token, E experts, H hidden size, R rows (token, choice) sorted
by expert, the rows of each expert padded to a multiple of `ROWS`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from turnout.models.fast.experts import FusedExperts

EXPERTS, ATTENTION = "turnout-padded", "turnout-float32"
ROWS = 64
_IGNORED = -100


def set_fast_bfloat16(model: PreTrainedModel) -> None:
    """Switch `model` to padded experts, float32 attention and a loss that is computed in pieces.

    Experts that are not plain gated matrices (with biases, transposed, or with their own norm) are not changed.
    """
    experts = [m for m in model.modules() if hasattr(m, "gate_up_proj") and hasattr(m, "has_gate")]
    if experts and not any(m.has_bias or m.is_transposed or m.has_post_expert_norm for m in experts):
        model.set_experts_implementation(EXPERTS)
    model.set_attn_implementation(ATTENTION)
    model.loss_function = next_token_loss


def padded_experts(experts: FusedExperts, hidden_TH: Tensor, index_TK: Tensor, weight_TK: Tensor) -> Tensor:
    """Output [T, H] of fused experts, equal to transformers' "eager" one, from products of few different shapes."""
    n_tokens, top_k = index_TK.shape
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden_TH.dtype
    source_R, position, sizes_E = _layout(index_TK, experts.num_experts)
    with torch.autocast("cpu", enabled=False):
        rows = hidden_TH.to(dtype).index_select(0, source_R)
        inner = experts._apply_gate(_products(experts, "gate_up_proj", rows, sizes_E))
        out_RH = _products(experts, "down_proj", inner, sizes_E)
        chosen = out_RH.index_select(0, position).view(n_tokens, top_k, -1).float()
        return (chosen * weight_TK.float().unsqueeze(-1)).sum(1).to(hidden_TH.dtype)


def _layout(index_TK: Tensor, n_experts: int) -> tuple[Tensor, Tensor, list[int]]:
    """The token of each row [R], the row of each (token, choice) [T*K], and each expert's padded number of rows."""
    flat = index_TK.reshape(-1)
    order = torch.sort(flat, stable=True).indices
    counts_E = torch.bincount(flat, minlength=n_experts)
    padded_E = (counts_E + ROWS - 1) // ROWS * ROWS
    shift_E = (padded_E.cumsum(0) - padded_E) - (counts_E.cumsum(0) - counts_E)
    row = torch.arange(len(order), device=flat.device) + shift_E.repeat_interleave(counts_E)
    sizes_E = padded_E.tolist()
    source_R = torch.zeros(sum(sizes_E), dtype=torch.long, device=flat.device).index_copy(
        0, row, order // index_TK.shape[1]
    )
    return source_R, torch.empty_like(order).index_copy(0, order, row), sizes_E


def _products(experts: FusedExperts, name: str, rows: Tensor, sizes_E: list[int]) -> Tensor:
    """Each expert's rows times its matrix in the parameter `name`, in the rows' dtype."""
    matrices = getattr(experts, name).to(rows.dtype)
    # unbind and split: the gradient of an index or a slice is a full-size tensor, one for each expert
    parts = zip(rows.split(sizes_E), matrices.unbind(0), strict=True)
    return torch.cat([linear(part, matrix) for part, matrix in parts if len(part)])


def float32_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: object
) -> tuple[Tensor, None]:
    """Compute transformers' "sdpa" attention in float32 also under autocast; the output has the query's dtype."""
    with torch.autocast("cpu", enabled=False):
        out, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **options)
    return out.to(query.dtype), None


def next_token_loss(
    logits: Tensor, labels: Tensor, vocab_size: int, num_items_in_batch: Tensor | int | None = None, **_: object
) -> Tensor:
    """Compute transformers' causal language modeling loss: logits at t against label t+1, labels −100 left out."""
    targets = nn.functional.pad(labels, (0, 1), value=_IGNORED)[..., 1:].reshape(-1)
    total = _CrossEntropy.apply(logits.reshape(-1, vocab_size), targets)
    counted = (targets != _IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return total / counted


class _CrossEntropy(torch.autograd.Function):
    """Σ over tokens of −log p(target), float32, a few rows at a time; the gradient is computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, logits_TV: Tensor, targets_T: Tensor) -> Tensor:
        """The sum, 0-dimensional."""
        total = torch.zeros((), dtype=torch.float32)
        gradient_TV = torch.empty_like(logits_TV) if ctx.needs_input_grad[0] else None
        for start in range(0, len(logits_TV), ROWS):
            rows = slice(start, start + ROWS)
            log_p = logits_TV[rows].float().log_softmax(-1)
            total += nn.functional.nll_loss(log_p, targets_T[rows], ignore_index=_IGNORED, reduction="sum")
            if gradient_TV is not None:
                gradient_TV[rows] = _softmax_minus_target(log_p, targets_T[rows])
        ctx.save_for_backward(gradient_TV)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        """The saved gradient, scaled."""
        (gradient_TV,) = ctx.saved_tensors
        return gradient_TV * outer[0].to(gradient_TV.dtype), None


def _softmax_minus_target(log_p: Tensor, targets: Tensor) -> Tensor:
    counted = (targets != _IGNORED).unsqueeze(1)
    one = torch.ones((), dtype=log_p.dtype).expand(len(targets), 1)
    return log_p.exp_().scatter_add_(1, targets.clamp(min=0).unsqueeze(1), -one).mul_(counted)


ALL_EXPERTS_FUNCTIONS.register(EXPERTS, padded_experts)
AttentionInterface.register(ATTENTION, float32_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
