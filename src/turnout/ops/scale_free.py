from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from turnout.ops._inputs import check_shape, refuse, wide


def scale_free(
    norms_NN: Float[Tensor, "N N"], row_lengths_N: Float[Tensor, "N"], gate_lengths_N: Float[Tensor, "N"]
) -> Float[Tensor, "N N"]:
    """M[i, j] / (‖R[i]‖·‖W_g^j‖): what `activation_norms` gives for rows and matrices of length 1 (ours).

    The ERC loss falls if everything merely shrinks; on this M it does not. 0 where a length is 0.

    Args:
        norms_NN: M, row = proxy, column = expert.
        row_lengths_N: ‖R[i]‖ of the clean rows.
        gate_lengths_N: ‖W_g^j‖, as `matrix_lengths` gives it.
    """
    check_shape("norms_NN", norms_NN, "N N")
    for name, lengths_N in (("row_lengths_N", row_lengths_N), ("gate_lengths_N", gate_lengths_N)):
        check_shape(name, lengths_N, "N")
        if len(lengths_N) != len(norms_NN):
            refuse(name, f"shape [{len(norms_NN)}]", list(lengths_N.shape))
    scale_NN = wide(row_lengths_N)[:, None] * wide(gate_lengths_N)[None, :]
    # A length of 0 is replaced before the division, so that no gradient meets 0/0.
    inside_NN = scale_NN != 0
    return (wide(norms_NN) / scale_NN.where(inside_NN, 1)).where(inside_NN, 0).to(norms_NN.dtype)


def matrix_lengths(gate_NHI: Float[Tensor, "N H I"]) -> Float[Tensor, "N"]:
    """‖W_g^j‖_F, the square root of the sum of squares of each matrix; differentiable once, without copies.

    Returns:
        [N], float64 where `gate_NHI` is, else float32. The gradient of a length of 0 is 0.
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
