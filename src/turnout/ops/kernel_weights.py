import torch
from jaxtyping import Bool, Float
from torch import Tensor

from turnout.ops._inputs import check_floats, refuse, wide


def kernel_weights(
    queries_NX: Float[Tensor, "N X"],
    neighbours_NkX: Float[Tensor, "N k X"],
    sigma: float,
    missing_Nk: Bool[Tensor, "N k"] | None = None,
) -> Float[Tensor, "N k"]:
    """Gaussian kernel weights K_j / ΣK of each query's neighbours, K = exp(−‖q − x_j‖² / 2σ²).

    C3PO (arXiv 2504.07964) names the kernel and gives no width. A missing neighbour has weight 0; a query without any
    has weights of 0. Neighbours so far away that every K is 0 in floating point still get their shares.

    Args:
        queries_NX: one row a query.
        neighbours_NkX: the neighbours of each query.
        sigma: the kernel's width, above 0, in the units of the distances.
        missing_Nk: True where there is no such neighbour; None: all are there.
    """
    check_floats("queries_NX", queries_NX, "N X")
    check_floats("neighbours_NkX", neighbours_NkX, "N k X")
    n, k, width = neighbours_NkX.shape
    if (n, width) != tuple(queries_NX.shape):
        refuse("neighbours_NkX", f"shape [{len(queries_NX)}, k, {queries_NX.shape[1]}]", [n, k, width])
    if not 0 < sigma < float("inf"):
        refuse("sigma", "a width above 0", sigma)
    if missing_Nk is None:
        missing_Nk = torch.zeros(n, k, dtype=torch.bool, device=queries_NX.device)
    if missing_Nk.shape != (n, k) or missing_Nk.dtype != torch.bool:
        refuse("missing_Nk", f"booleans of shape [{n}, {k}]", f"{missing_Nk.dtype} {list(missing_Nk.shape)}")
    difference_NkX = wide(neighbours_NkX) - wide(queries_NX).unsqueeze(1)
    logit_Nk = difference_NkX.square().sum(2) / (-2 * sigma**2)
    shares_Nk = logit_Nk.masked_fill(missing_Nk, -torch.inf).softmax(1)
    return shares_Nk.masked_fill(missing_Nk, 0).to(queries_NX.dtype)
