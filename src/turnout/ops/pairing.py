"""Pairings of proxies with experts, coupling norms without scale, and the orthogonality of router rows.

Shapes: N rows of a router (routed experts), H hidden size, I expert width.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from turnout.ops._inputs import check_shape, refuse, wide


def pairing_costs(norms_NN: Float[Tensor, "N N"], alpha: float | int) -> Float[Tensor, "N N"]:
    """C[i, j]: the part of the ERC loss due to proxy i if expert j were its own.

    C[i, j] = (1/N²)·[Σ_{m≠j} max(M[i,m] − α·M[i,j], 0) + Σ_{m≠i} max(M[m,j] − α·M[i,j], 0)]. For a pairing π of
    proxies with experts the loss is Σ_i C[i, π(i)]: the trace is `erc_loss`, and N times the mean of C is the mean
    loss of a random pairing. Source: the ERC loss of arXiv 2512.23447, of any pairing (ours).

    Args:
        norms_NN: M, row = proxy, column = expert.
        alpha: α, at least 0.
    """
    check_shape("norms_NN", norms_NN, "N N")
    if norms_NN.shape[0] != norms_NN.shape[1]:
        refuse("norms_NN", "as many rows as columns", list(norms_NN.shape))
    if not (math.isfinite(alpha) and alpha >= 0):
        refuse("alpha", "a finite number of at least 0", alpha)
    norms = wide(norms_NN)
    allowed_NN = alpha * norms
    own_NN = (norms - allowed_NN).relu()  # a pair's own term, in neither sum
    in_row = torch.stack([(norms - own_N[:, None]).relu().sum(1) for own_N in allowed_NN.T], dim=1)
    in_column = torch.stack([(norms - own_N[None, :]).relu().sum(0) for own_N in allowed_NN], dim=0)
    return ((in_row + in_column - 2 * own_NN) / len(norms) ** 2).to(norms_NN.dtype)


def scale_free(
    norms_NN: Float[Tensor, "N N"], row_lengths_N: Float[Tensor, "N"], gate_lengths_N: Float[Tensor, "N"]
) -> Float[Tensor, "N N"]:
    """M[i, j] / (‖R[i]‖·‖W_g^j‖): `activation_norms` of rows and matrices of norm 1 (ours).

    The ERC loss falls if all weights shrink; on this M it does not. 0 where a length is 0.

    Args:
        norms_NN: M, row = proxy, column = expert.
        row_lengths_N: ‖R[i]‖ of the clean rows.
        gate_lengths_N: ‖W_g^j‖, from `matrix_lengths`.
    """
    check_shape("norms_NN", norms_NN, "N N")
    for name, lengths_N in (("row_lengths_N", row_lengths_N), ("gate_lengths_N", gate_lengths_N)):
        check_shape(name, lengths_N, "N")
        if len(lengths_N) != len(norms_NN):
            refuse(name, f"shape [{len(norms_NN)}]", list(lengths_N.shape))
    scale_NN = wide(row_lengths_N)[:, None] * wide(gate_lengths_N)[None, :]
    # A length of 0 is replaced before the division, so that no gradient is 0/0.
    inside_NN = scale_NN != 0
    return (wide(norms_NN) / scale_NN.where(inside_NN, 1)).where(inside_NN, 0).to(norms_NN.dtype)


def matrix_lengths(gate_NHI: Float[Tensor, "N H I"]) -> Float[Tensor, "N"]:
    """‖W_g^j‖_F, the Frobenius norm of each gate matrix; differentiable once, without copies.

    Returns:
        [N], float64 where `gate_NHI` is, else float32. The gradient of a norm of 0 is 0.
    """
    check_shape("gate_NHI", gate_NHI, "N H I")
    return _MatrixLengths.apply(gate_NHI)


class _MatrixLengths(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_NHI: Tensor) -> Tensor:
        dtype = wide(gate_NHI[:0]).dtype
        lengths_N = torch.stack([torch.linalg.vector_norm(gate_HI, dtype=dtype) for gate_HI in gate_NHI])
        ctx.save_for_backward(gate_NHI, lengths_N)
        return lengths_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> Tensor:
        gate_NHI, lengths_N = ctx.saved_tensors
        scale_N = (grad_N / lengths_N).where(lengths_N != 0, 0).to(gate_NHI.dtype)
        return gate_NHI * scale_N[:, None, None]


def router_orthogonality(router_NH: Float[Tensor, "N H"]) -> Float[Tensor, ""]:
    """Mean squared cosine over pairs of router rows: ‖R̂R̂ᵀ − I‖² off the diagonal, where R̂ has rows of norm 1.

    A baseline for the ERC loss: it separates the rows without regard to the experts. 0 for orthogonal rows, 1 for
    parallel ones, 0 for a single row; a row of zeros is orthogonal to all others.

    Args:
        router_NH: R, one row an expert.
    """
    check_shape("router_NH", router_NH, "N H")
    rows_NH = wide(router_NH)
    unit_NH = torch.nn.functional.normalize(rows_NH, dim=1, eps=torch.finfo(rows_NH.dtype).tiny)
    with torch.autocast(rows_NH.device.type, enabled=False):
        cosine_NN = unit_NH @ unit_NH.T
    diagonal_NN = torch.eye(len(rows_NH), dtype=torch.bool, device=rows_NH.device)
    pairs = max(len(rows_NH) * (len(rows_NH) - 1), 1)
    return (cosine_NN.masked_fill(diagonal_NN, 0).square().sum() / pairs).to(router_NH.dtype)
