import math

import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_shape, refuse, wide


def pairing_costs(norms_NN: Float[Tensor, "N N"], alpha: float | int) -> Float[Tensor, "N N"]:
    """C[i, j]: what proxy i would add to the ERC loss if expert j were its own.

    C[i, j] = (1/N²)·[Σ_{m≠j} max(M[i,m] − α·M[i,j], 0) + Σ_{m≠i} max(M[m,j] − α·M[i,j], 0)]. For a pairing π of
    proxies with experts the loss is Σ_i C[i, π(i)]: the trace is `erc_loss`, and N times the mean of C is what a
    random pairing costs on average.

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
