import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_floats, refuse, wide


def linear_cka(x_SX: Float[Tensor, "S X"], y_SY: Float[Tensor, "S Y"]) -> Float[Tensor, ""]:
    """How alike two representations of the same samples are: ‖YᵀX‖² / (‖XᵀX‖·‖YᵀY‖), columns centred, Frobenius norms.

    Linear centred kernel alignment (Kornblith et al., arXiv 1905.00414, eq. 3 and 4). No S×S matrix is held. It does
    not change under rotation, shift or a common factor of either side. With few samples for their coordinates it is
    above 0 for unrelated ones: hold it against permutations of one side.

    Args:
        x_SX: one row a sample.
        y_SY: the same samples, of any width.

    Returns:
        0…1. NaN where all rows of one side are equal.
    """
    check_floats("x_SX", x_SX, "S X")
    check_floats("y_SY", y_SY, "S Y")
    if len(x_SX) != len(y_SY):
        refuse("y_SY", f"{len(x_SX)} rows, as x_SX has", len(y_SY))
    x, y = _centred(x_SX), _centred(y_SY)
    across, of_x, of_y = (torch.linalg.matrix_norm(a.T @ b) for a, b in ((y, x), (x, x), (y, y)))
    return (across.square() / (of_x * of_y)).clamp(max=1.0).to(x_SX.dtype)


def _centred(x_SX: Tensor) -> Tensor:
    """Columns of mean 0, the whole of length 1, so that squares stay in range; NaN if all rows are equal."""
    x_SX = wide(x_SX)
    x_SX = x_SX - x_SX[0]
    x_SX = x_SX - x_SX.mean(0)
    return x_SX / torch.linalg.matrix_norm(x_SX)
