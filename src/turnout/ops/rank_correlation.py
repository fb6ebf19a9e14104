import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_floats, refuse, wide


def rank_correlation(x_TN: Float[Tensor, "T N"], y_TN: Float[Tensor, "T N"]) -> Float[Tensor, "T"]:
    """Spearman's rank correlation of each row of x with the same row of y; equal values share their mean rank.

    0 where a row has one value only: its ranks say nothing (ours).
    """
    check_floats("x_TN", x_TN, "T N")
    check_floats("y_TN", y_TN, "T N")
    if x_TN.shape != y_TN.shape:
        refuse("y_TN", f"shape {list(x_TN.shape)}, as x_TN", list(y_TN.shape))
    x, y = (_centred_ranks(wide(values)) for values in (x_TN, y_TN))
    length_T = x.norm(dim=1) * y.norm(dim=1)
    return ((x * y).sum(1) / length_T).where(length_T > 0, 0).to(x_TN.dtype)


def _centred_ranks(values_TN: Tensor) -> Tensor:
    sorted_TN = values_TN.sort(dim=1).values.contiguous()
    values_TN = values_TN.contiguous()
    below = torch.searchsorted(sorted_TN, values_TN)
    upto = torch.searchsorted(sorted_TN, values_TN, right=True)
    return (below + upto).to(values_TN.dtype) / 2 - values_TN.shape[1] / 2
