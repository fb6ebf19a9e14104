import math

import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_shape, refuse, wide


def erc_loss(norms_NN: Float[Tensor, "N N"], alpha: float | int) -> Float[Tensor, ""]:
    """Expert–router coupling: how far answers to the wrong proxy, or of the wrong expert, exceed α times the own one.

    L = (1/N²) Σ_i Σ_{j≠i} [max(M[i,j] − α·M[i,i], 0) + max(M[j,i] − α·M[i,i], 0)] (arXiv 2512.23447). 0 where every
    diagonal of αM is the largest of its row and column; 0 for N = 1.

    Args:
        norms_NN: M, row = proxy, column = expert.
        alpha: α, at least 0; below 1 asks for a margin, above 1 allows one.
    """
    check_shape("norms_NN", norms_NN, "N N")
    if norms_NN.shape[0] != norms_NN.shape[1]:
        refuse("norms_NN", "as many rows as columns", list(norms_NN.shape))
    if not (math.isfinite(alpha) and alpha >= 0):
        refuse("alpha", "a finite number of at least 0", alpha)
    norms = wide(norms_NN)
    own_N = alpha * norms.diagonal()
    excess_NN = (norms - own_N[:, None]).relu() + (norms - own_N[None, :]).relu()
    diagonal_NN = torch.eye(len(norms), dtype=torch.bool, device=norms.device)
    return (excess_NN.masked_fill(diagonal_NN, 0).sum() / len(norms) ** 2).to(norms_NN.dtype)
