import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_shape, refuse, wide


def manifold_loss(
    routing_BF: Float[Tensor, "B F"], neighbours_BkF: Float[Tensor, "B k F"], weight_Bk: Float[Tensor, "B k"]
) -> Float[Tensor, ""]:
    """How far each sample's routing lies from its neighbours': mean over B of Σ_j W[i,j]·‖r_i − r_j‖².

    RoMA (arXiv 2511.07419). Differentiable in all three. A missing neighbour has weight 0 and adds nothing; a sample
    without any adds 0 and is counted in the mean.

    Args:
        routing_BF: r_i, the scores of a sample's layers, concatenated.
        neighbours_BkF: r_j of each sample's neighbours.
        weight_Bk: W, at least 0; a row sums to 1, or to 0 without neighbours.

    Returns:
        A scalar.
    """
    check_shape("routing_BF", routing_BF, "B F")
    check_shape("neighbours_BkF", neighbours_BkF, "B k F")
    check_shape("weight_Bk", weight_Bk, "B k")
    n, features = routing_BF.shape
    if neighbours_BkF.shape[0] != n or neighbours_BkF.shape[2] != features:
        refuse("neighbours_BkF", f"shape [{n}, k, {features}]", list(neighbours_BkF.shape))
    if weight_Bk.shape != neighbours_BkF.shape[:2]:
        refuse("weight_Bk", f"shape {list(neighbours_BkF.shape[:2])}", list(weight_Bk.shape))
    dtype = torch.promote_types(routing_BF.dtype, torch.float32)
    difference_BkF = wide(routing_BF).unsqueeze(1) - neighbours_BkF.to(dtype)
    return (weight_Bk.to(dtype) * difference_BkF.square().sum(2)).sum(1).mean().to(routing_BF.dtype)
