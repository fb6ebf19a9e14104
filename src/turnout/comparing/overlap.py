"""Which experts two runs have in common: committees, and the experts that each token chooses.

Expert numbers mean the same only in checkpoints of one model: before and after training on, along its steps.

Shapes: S samples, T tokens, E experts, K chosen per token, R resamples.
"""

from math import comb
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.auditing.evidence.bootstrap import percentile_interval
from turnout.auditing.tokens.binding import has_tokens
from turnout.comparing.side import Side

_AT_ONCE = 1 << 16  # tokens whose choices are compared together
Floats = NDArray[np.float64]


def set_overlap(one: list[int], other: list[int], n_experts: int) -> dict[str, Any]:
    """Jaccard index of two sets of experts; p: how often random sets of these sizes share as many."""
    shared = len(set(one) & set(other))
    total = comb(n_experts, len(other))
    most = min(len(one), len(other))
    p = sum(comb(len(one), m) * comb(n_experts - len(one), len(other) - m) for m in range(shared, most + 1)) / total
    return {"jaccard": shared / len(set(one) | set(other)), "shared": shared, "p": p}


def stability_interval(one_RDE: Tensor, k_one: int, other_RDE: Tensor, k_other: int, presence: float) -> list[float]:
    """95 % interval of the Jaccard index of both committees, found anew in each resample [R, D, E]."""
    _, one_RE, _ = ops.membership(one_RDE, k_one, presence)
    _, other_RE, _ = ops.membership(other_RDE, k_other, presence)
    shared_R, joined_R = (one_RE & other_RE).sum(1), (one_RE | other_RE).sum(1)
    return list(percentile_interval(shared_R / joined_R))


def same_tokens(reference: Side, other: Side) -> str | None:
    """Why the choices of two runs cannot be compared token by token; None if they can."""
    for side in (reference, other):
        if side.trace is None:
            return f"{side.name} holds no trace of its own"
        if not has_tokens(side.trace):
            return f"the tokens of {side.name} are unknown"
    assert reference.trace is not None
    assert other.trace is not None
    (one_T, one_offsets), (other_T, other_offsets) = reference.trace.tokens(), other.trace.tokens()
    same = np.array_equal(one_offsets, other_offsets) and np.array_equal(one_T, other_T)
    return None if same else "different tokens"


def agreement(
    reference: Side, other: Side, layers: tuple[int, int], counts_RS: NDArray[np.int32]
) -> tuple[dict[str, Any], Floats]:
    """Share of the K experts that a token chooses in one run which it chooses in the other too.

    Along the checkpoints of a model, with the last as reference, this is router saturation (OLMoE, arXiv 2409.02060).

    Args:
        reference: the run to which the other is compared; both read the same tokens.
        other: the other one.
        layers: the layer's number in each; both choose K of E.
        counts_RS: how often each resample draws each of the reference's samples.

    Returns:
        `value`; `interval`; `chance`, K/E; `by_load`, what two routers of these loads would share if they chose apart
        from each other; and the share in each resample [R].
    """
    assert reference.trace is not None
    assert other.trace is not None
    (one_TK, offsets), (other_TK, _) = reference.trace.chosen(layers[0]), other.trace.chosen(layers[1])
    n_experts = next(of.experts for of in reference.trace.layers if of.layer == layers[0])
    shared_S = np.add.reduceat(_shared(one_TK, other_TK), offsets[:-1])[reference.rows_S].astype(np.float64)
    tokens_S = np.diff(offsets)[reference.rows_S].astype(np.float64)
    k = one_TK.shape[1]
    drawn_R = (counts_RS @ shared_S) / (k * (counts_RS @ tokens_S))
    load = [np.bincount(chosen.ravel(), minlength=n_experts) / len(chosen) for chosen in (one_TK, other_TK)]
    found = {
        "value": float(shared_S.sum() / (k * tokens_S.sum())),
        "interval": list(percentile_interval(torch.from_numpy(drawn_R))),
        "chance": k / n_experts,
        "by_load": float((load[0] * load[1]).sum() / k),
    }
    return found, drawn_R


def _shared(one_TK: NDArray[np.unsignedinteger], other_TK: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """[T]: how many experts both choose."""
    shared_T = np.empty(len(one_TK), np.int64)
    for start in range(0, len(one_TK), _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        shared_T[block] = (one_TK[block, :, None] == other_TK[block, None, :]).any(2).sum(1)
    return shared_T
