import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_shape, wide


@torch.no_grad()
def noise_bound(router_NH: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
    """How far each router row may be scaled, coordinate by coordinate, and stay nearest to itself.

    ε_i = min over j ≠ i of ‖R[i] − R[j]‖ / (2·‖R[i]‖): the ERC loss' bound (arXiv 2512.23447). No gradient flows
    through it. Where nothing can be moved it is 0 (ours): a row of zeros, a row that occurs twice, and a single row,
    which has no neighbour.

    Args:
        router_NH: R, one row an expert.
    """
    check_shape("router_NH", router_NH, "N H")
    rows_NH = wide(router_NH)
    if len(rows_NH) == 1:
        return torch.zeros_like(router_NH[:, 0])
    # Differences, not products: those would lose the distance of rows that are nearly the same to rounding.
    distance_NN = torch.cdist(rows_NH, rows_NH, compute_mode="donot_use_mm_for_euclid_dist")
    nearest_N = distance_NN.fill_diagonal_(torch.inf).amin(1)
    length_N = torch.linalg.vector_norm(rows_NH, dim=1)
    return (nearest_N / (2 * length_N)).where(length_N != 0, 0).to(router_NH.dtype)
