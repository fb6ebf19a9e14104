"""Experts that two runs have in common: in their committees, and in the choices of each token.

An expert's number means the same in two runs only for checkpoints of one model, along its training.

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

_BLOCK = 1 << 16  # tokens whose choices are compared together
Floats = NDArray[np.float64]


def set_overlap(one: list[int], other: list[int], n_experts: int) -> dict[str, Any]:
    """Jaccard index of two sets of experts; p is the probability that random sets of these sizes share as many."""
    shared = len(set(one) & set(other))
    total = comb(n_experts, len(other))
    most = min(len(one), len(other))
    p = sum(comb(len(one), m) * comb(n_experts - len(one), len(other) - m) for m in range(shared, most + 1)) / total
    return {"jaccard": shared / len(set(one) | set(other)), "shared": shared, "p": p}


def stability_interval(one_RDE: Tensor, k_one: int, other_RDE: Tensor, k_other: int, presence: float) -> list[float]:
    """95 % interval of the Jaccard index of both committees, selected again in each resample [R, D, E]."""
    _, one_RE, _ = ops.membership(one_RDE, k_one, presence)
    _, other_RE, _ = ops.membership(other_RDE, k_other, presence)
    shared_R, joined_R = (one_RE & other_RE).sum(1), (one_RE | other_RE).sum(1)
    return list(percentile_interval(shared_R / joined_R))


def token_mismatch(reference: Side, other: Side) -> str | None:
    """The reason why the choices of two runs cannot be compared token by token; None if they can."""
    for side in (reference, other):
        if side.trace is None:
            return f"{side.name} contains no trace"
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
    """Share of the K experts chosen by a token in one run that it also chooses in the other.

    Along the checkpoints of a model, with the last as reference, this is router saturation (OLMoE, arXiv 2409.02060).

    Args:
        reference: the run to which the other is compared; both contain the same tokens.
        other: the other run.
        layers: the layer's number in each run; both choose K of E.
        counts_RS: number of times that each resample draws each of the reference's samples.

    Returns:
        `value`; `interval`; `chance`, K/E; `by_load`, the share expected for two routers with these loads and
        independent choices; and the share in each resample [R].
    """
    assert reference.trace is not None
    assert other.trace is not None
    (one_TK, offsets), (other_TK, _) = reference.trace.chosen(layers[0]), other.trace.chosen(layers[1])
    n_experts = next(x.experts for x in reference.trace.layers if x.layer == layers[0])
    shared_S = np.add.reduceat(_shared(one_TK, other_TK), offsets[:-1])[reference.rows_S].astype(np.float64)
    tokens_S = np.diff(offsets)[reference.rows_S].astype(np.float64)
    k = one_TK.shape[1]
    drawn_R = (counts_RS @ shared_S) / (k * (counts_RS @ tokens_S))
    load = [np.bincount(chosen.ravel(), minlength=n_experts) / len(chosen) for chosen in (one_TK, other_TK)]
    result = {
        "value": float(shared_S.sum() / (k * tokens_S.sum())),
        "interval": list(percentile_interval(torch.from_numpy(drawn_R))),
        "chance": k / n_experts,
        "by_load": float((load[0] * load[1]).sum() / k),
    }
    return result, drawn_R


def _shared(one_TK: NDArray[np.unsignedinteger], other_TK: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """Number of experts that both choose for each token, [T]."""
    shared_T = np.empty(len(one_TK), np.int64)
    for start in range(0, len(one_TK), _BLOCK):
        block = slice(start, start + _BLOCK)
        shared_T[block] = (one_TK[block, :, None] == other_TK[block, None, :]).any(2).sum(1)
    return shared_T
