"""Inequality of the routing over experts: Gini coefficient, Lorenz curve, coverage, influence ratio.

Shapes: D domains, E routed experts, M members, *R any leading dimensions.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from turnout.ops._inputs import check_amounts, check_k, check_members, refuse, wide
from turnout.ops.committee import ranks


def gini(x_E: Float[Tensor, "*R E"]) -> Float[Tensor, "*R"]:
    """Gini coefficient, ΣᵢΣⱼ|xᵢ − xⱼ| / (2·E·Σx): 0 where all are equal, 1 − 1/E where one has everything.

    In CommitteeAudit (arXiv 2601.03425) x is the mean contribution over domains.

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
    # A gap lies between `below` poorer and E − `below` richer: no cancellation, and exactly 0 if all are equal.
    pairs = (sorted_E.diff() * below * (n_experts - below)).sum(-1)
    return (pairs / (n_experts * total)).to(x_E.dtype)


def gini_topk(contribution_DE: Float[Tensor, "*R D E"], k: int) -> Float[Tensor, "*R"]:
    """Mean over domains of the Gini coefficient of the domain's contributions with all but its k largest set to 0.

    The value in CommitteeAudit's tables (arXiv 2601.03425). Its floor for any router is 1 − k/E.
    """
    check_amounts("contribution_DE", contribution_DE, "*R D E")
    kept_DE = wide(contribution_DE).where(ranks(contribution_DE, k) <= k, 0)
    empty = ~kept_DE.any(-1)
    if bool(empty.any()):
        refuse(f"contribution_DE{empty.nonzero()[0].tolist()}", "a sum above 0", 0)
    return gini(kept_DE).mean(-1).to(contribution_DE.dtype)


def lorenz(x_E: Float[Tensor, "E"]) -> Float[Tensor, "E+1"]:
    """Lorenz curve: share of the total of the poorest 0, 1, …, E experts; from 0 to 1, convex.

    Args:
        x_E: amounts of at least 0 with a sum above 0.

    Returns:
        [E + 1]; the Gini coefficient is 1 − 2 × the area beneath.
    """
    check_amounts("x_E", x_E, "E")
    cumulative_E = wide(x_E).sort().values.cumsum(0)
    if not bool(cumulative_E[-1] > 0):
        refuse("x_E", "a sum above 0", 0)
    curve = cumulative_E.new_zeros(len(x_E) + 1)
    curve[1:] = cumulative_E / cumulative_E[-1]
    return curve.to(x_E.dtype)


def coverage(contribution_DE: Float[Tensor, "*R D E"], members: Integer[Tensor, "M"]) -> Float[Tensor, "*R"]:
    """Share of `members` in the mean contribution over domains of *all* experts.

    CommitteeAudit's definition (arXiv 2601.03425); its tables contain `coverage_topk`. |C|/E for a router with equal
    contributions.
    """
    check_amounts("contribution_DE", contribution_DE, "*R D E")
    check_members(members, contribution_DE.shape[-1])
    mean_E = wide(contribution_DE).mean(-2)
    total = mean_E.sum(-1)
    if not bool((total > 0).all()):
        refuse("contribution_DE", "a sum above 0", 0)
    return (mean_E[..., members.long()].sum(-1) / total).clamp(max=1).to(contribution_DE.dtype)


def coverage_topk(
    contribution_DE: Float[Tensor, "*R D E"], members: Integer[Tensor, "M"], k: int
) -> Float[Tensor, "*R"]:
    """Coverage as in CommitteeAudit's tables (arXiv 2601.03425): a share of each domain's first k, not of all experts.

    A member counts as 0 in domains where it is not among the first k. Its floor for any router is about |C|/k.
    """
    check_k(k, contribution_DE.shape[-1])
    return coverage(contribution_DE.where(ranks(contribution_DE, k) <= k, 0), members)


def largest_coverage(contribution_DE: Float[Tensor, "*R D E"]) -> Float[Tensor, "*R E"]:
    """Share of the mean contribution over domains that the m largest experts have, for m = 1…E.

    No set of m experts has a larger `coverage`.
    """
    check_amounts("contribution_DE", contribution_DE, "*R D E")
    mean_E = wide(contribution_DE).mean(-2)
    total = mean_E.sum(-1, keepdim=True)
    if not bool((total > 0).all()):
        refuse("contribution_DE", "a sum above 0", 0)
    cumulative_E = mean_E.sort(dim=-1, descending=True).values.cumsum(-1)
    return (cumulative_E / total).clamp(max=1).to(contribution_DE.dtype)


def influence_ratio(coverage: Float[Tensor, "*R"] | float, size: int, n_experts: int) -> Float[Tensor, "*R"]:
    """Influence density ratio: a member's share over another expert's share, (cov/|C|) / ((1 − cov)/(E − |C|)).

    CommitteeAudit (arXiv 2601.03425).

    Args:
        coverage: share of the committee, 0…1, of any shape (a Python float is taken as float64).
        size: |C|, 1…E.
        n_experts: E.

    Returns:
        The shape of `coverage`. NaN where |C| = E, since there is no other expert; infinity where the others have
        nothing. audit.json has null for both.
    """
    share = coverage if isinstance(coverage, Tensor) else torch.tensor(coverage, dtype=torch.float64)
    check_amounts("coverage", share, "*R")
    if bool((share > 1).any()):
        refuse("coverage", "a share, at most 1", share.max().item())
    if not 1 <= size <= n_experts:
        refuse("size", f"1 to {n_experts}, the number of experts", size)
    if size == n_experts:
        return torch.full_like(share, torch.nan)
    exact = wide(share)
    return ((exact / size) / ((1 - exact) / (n_experts - size))).to(share.dtype)
