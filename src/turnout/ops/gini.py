import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_amounts, refuse, wide


def gini(x_E: Float[Tensor, "*R E"]) -> Float[Tensor, "*R"]:
    """Gini coefficient, ΣᵢΣⱼ|xᵢ − xⱼ| / (2·E·Σx): 0 where all are equal, 1 − 1/E where one has everything.

    CommitteeAudit (arXiv 2601.03425) takes it of the mean contribution over domains.

    Args:
        x_E: amounts of at least 0 with a sum above 0.
    """
    check_amounts("x_E", x_E, "*R E")
    total = wide(x_E).sum(-1)
    if not bool((total > 0).all()):
        refuse("x_E", "a sum above 0", 0)
    sorted_E = wide(x_E).sort().values
    n_experts = x_E.shape[-1]
    below = torch.arange(1, n_experts, device=x_E.device, dtype=sorted_E.dtype)
    # A gap parts `below` poorer from E − `below` richer: no cancellation, and exactly 0 if all are equal.
    pairs = (sorted_E.diff() * below * (n_experts - below)).sum(-1)
    return (pairs / (n_experts * total)).to(x_E.dtype)
