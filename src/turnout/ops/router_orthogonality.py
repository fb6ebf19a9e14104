import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_shape, wide


def router_orthogonality(router_NH: Float[Tensor, "N H"]) -> Float[Tensor, ""]:
    """Mean over pairs of router rows of their squared cosine: ‖R̂R̂ᵀ − I‖², off the diagonal; R̂ has rows of length 1.

    A baseline for the ERC loss: it parts the rows as well, and knows nothing of the experts. 0 for rows at right
    angles, 1 for parallel ones, 0 for a single row; a row of zeros is at right angles to all others.

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
