import torch
from jaxtyping import Float, Int64
from torch import Tensor

from turnout.ops._inputs import check_floats, check_k


def ranks(contribution_DE: Float[Tensor, "*R D E"], k: int) -> Int64[Tensor, "*R D E"]:
    """Rank of each expert within each domain: 1 for the largest contribution, k + 1 outside the first k.

    CommitteeAudit (arXiv 2601.03425). Equal contributions are ranked by lower expert index (ours).

    Returns:
        […, D, E] int64, values 1…k and k + 1.
    """
    check_floats("contribution_DE", contribution_DE, "*R D E")
    check_k(k, contribution_DE.shape[-1])
    order_DK = contribution_DE.argsort(dim=-1, descending=True, stable=True)[..., :k]
    rank_DK = torch.arange(1, k + 1, device=contribution_DE.device).expand_as(order_DK)
    out_DE = torch.full(contribution_DE.shape, k + 1, dtype=torch.int64, device=contribution_DE.device)
    return out_DE.scatter_(-1, order_DK, rank_DK)
