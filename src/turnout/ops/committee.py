"""Contributions of experts by domain, their ranks, and committees (CommitteeAudit, arXiv 2601.03425).

Shapes: S samples, D domains, E routed experts, M members, *R any leading dimensions.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor

from turnout.ops._inputs import check_amounts, check_domains, check_floats, check_k, refuse, wide


def contribution(
    scores_SE: Float[Tensor, "S E"], domain_S: Integer[Tensor, "S"], n_domains: int
) -> Float[Tensor, "{n_domains} E"]:
    """Expert Contribution Index: the mean of each expert's score over a domain's samples.

    CommitteeAudit (arXiv 2601.03425), Eq. 2–4. From the full score vector p it is `gate`, from 0/1 choices `frequency`,
    from applied weights (0 where not chosen) `weight`.

    Args:
        scores_SE: one row a sample; p sums to 1 over experts, and so do the rows of the result.
        domain_S: each sample's domain, 0…D−1; every domain has a sample.
        n_domains: D.

    Returns:
        [D, E].
    """
    check_floats("scores_SE", scores_SE, "S E")
    check_domains(domain_S, len(scores_SE), n_domains)
    scores = wide(scores_SE)
    # One sum a domain, not index_add_: on CUDA its order, and so the last bits, are not deterministic.
    return torch.stack([scores[domain_S == d].mean(0) for d in range(n_domains)]).to(scores_SE.dtype)


_EPSILON = 1e-6  # in the released code, against division by zero where an expert's weight is constant


def released(
    weight_SE: Float[Tensor, "S E"],
    domain_S: Integer[Tensor, "S"],
    n_domains: int,
    frequency_SE: Float[Tensor, "S E"] | None = None,
) -> Float[Tensor, "{n_domains} E"]:
    """Contribution as in CommitteeAudit's released code, which differs from the paper's Eq. 2–4 (arXiv 2601.03425).

    An expert's applied weight is min–max scaled over a domain's samples, (x − min)/(max − min + 1e-6), averaged, and
    multiplied by the expert's frequency in that domain.

    Args:
        weight_SE: applied weights, 0 where not chosen.
        domain_S: each sample's domain, 0…D−1; every domain has a sample.
        n_domains: D.
        frequency_SE: how often the sample chose the expert, 0…1; None: 1 where the weight is above 0.

    Returns:
        [D, E]; 0 in a domain with one sample, where nothing varies.
    """
    check_amounts("weight_SE", weight_SE, "S E")
    check_domains(domain_S, len(weight_SE), n_domains)
    weight = wide(weight_SE)
    if frequency_SE is None:
        frequency = (weight > 0).to(weight.dtype)
    else:
        check_floats("frequency_SE", frequency_SE, "S E")
        if frequency_SE.shape != weight_SE.shape:
            refuse("frequency_SE", f"shape {list(weight_SE.shape)}, as weight_SE", list(frequency_SE.shape))
        frequency = wide(frequency_SE)
    scaled_DE = contribution(min_max_scaled(weight, domain_S, n_domains), domain_S, n_domains)
    return (scaled_DE * contribution(frequency, domain_S, n_domains)).to(weight_SE.dtype)


def min_max_scaled(
    weight_SE: Float[Tensor, "S E"], domain_S: Integer[Tensor, "S"], n_domains: int
) -> Float[Tensor, "S E"]:
    """Weights scaled over a domain's samples, (x − min)/(max − min + 1e-6): the first step of `released`."""
    check_amounts("weight_SE", weight_SE, "S E")
    check_domains(domain_S, len(weight_SE), n_domains)
    weight, out_SE = wide(weight_SE), torch.empty_like(wide(weight_SE))
    for d in range(n_domains):
        rows = domain_S == d
        low_E, high_E = torch.aminmax(weight[rows], dim=0)
        out_SE[rows] = (weight[rows] - low_E) / (high_E - low_E + _EPSILON)
    return out_SE.to(weight_SE.dtype)


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


def membership(
    contribution_DE: Float[Tensor, "*R D E"], k: int, presence: float = 0.8
) -> tuple[Bool[Tensor, "*R E"], Bool[Tensor, "*R E"], Bool[Tensor, "*R"]]:
    """Candidates and committee members by the rule of `committee`, for any number of contributions at once.

    Returns:
        candidate […, E], member […, E] and fallback […].
    """
    if not 0 < presence <= 1:
        refuse("presence", "a share above 0 and at most 1", presence)
    rank_DE = ranks(contribution_DE, k)
    n_domains = rank_DE.shape[-2]
    present_E = (rank_DE <= k).sum(-2)
    needed = math.ceil(round(presence * n_domains, 9))  # 0.07·100 is 7.000000000000001 in floats, and 7 domains suffice
    largest = present_E.amax(-1, keepdim=True)
    candidate_E = present_E >= largest.clamp(max=needed)
    total_E, spread_E = rank_sums(rank_DE)
    return candidate_E, candidate_E & ~_dominated(total_E, spread_E, candidate_E), largest.squeeze(-1) < needed


def rank_sums(rank_DE: Int64[Tensor, "*R D E"]) -> tuple[Int64[Tensor, "*R E"], Int64[Tensor, "*R E"]]:
    """Σr and D·Σr² − (Σr)²: integers that order like mean and variance of the rank and compare exactly."""
    total_E = rank_DE.sum(-2)
    return total_E, rank_DE.shape[-2] * rank_DE.square().sum(-2) - total_E.square()


def _dominated(total_E: Tensor, spread_E: Tensor, candidate_E: Tensor) -> Tensor:
    """Whether another candidate is no worse in both and better in one, […, E]."""
    no_worse = (total_E[..., :, None] <= total_E[..., None, :]) & (spread_E[..., :, None] <= spread_E[..., None, :])
    same = (total_E[..., :, None] == total_E[..., None, :]) & (spread_E[..., :, None] == spread_E[..., None, :])
    return (no_worse & ~same & candidate_E[..., :, None]).any(-2)


@dataclass(frozen=True, eq=False)
class Committee:
    """A layer's committee: M members by mean rank, then index; all tensors but `candidates` align with `members`."""

    members: Tensor
    """int64 [M]: the Pareto set of mean rank and rank variance among the candidates."""
    mean_rank: Tensor
    """[M]: mean over domains of the rank, 1…K+1."""
    rank_variance: Tensor
    """[M]: population variance over domains of the rank."""
    presence: Tensor
    """[M]: share of domains with the expert among the first K."""
    candidates: Tensor
    """int64 [C], by index: the experts present in enough domains."""
    fallback: bool
    """True if no expert was present in enough domains: the candidates are then those of greatest presence."""


def committee(contribution_DE: Float[Tensor, "D E"], k: int, presence: float = 0.8) -> Committee:
    """Committee: the experts with the best mean and variance of rank over domains, among those present in most domains.

    CommitteeAudit (arXiv 2601.03425). Candidates are in the first k of at least ceil(presence·D) domains (as in the
    released code; the paper writes "> 0.8", the same at nine domains); the committee is their Pareto set of mean and
    population variance of rank, both small. Exact duplicates both stay. If no expert is present in enough domains,
    those of greatest presence are the candidates and `fallback` is true (the released code's rule).

    Args:
        contribution_DE: contribution by domain and expert.
        k: experts chosen for a token, the model's own K.
        presence: smallest share of domains, above 0 and at most 1.

    Raises:
        ValueError: k or presence out of range, NaN, infinity.
    """
    candidate_E, member_E, fallback = membership(contribution_DE, k, presence)
    rank_DE = ranks(contribution_DE, k)
    n_domains = len(rank_DE)
    total_E, spread_E = rank_sums(rank_DE)
    members = member_E.nonzero().flatten()
    members = members[total_E[members].argsort(stable=True)]
    dtype, exact = contribution_DE.dtype, wide(contribution_DE).dtype
    return Committee(
        members=members,
        mean_rank=(total_E[members].to(exact) / n_domains).to(dtype),
        rank_variance=(spread_E[members].to(exact) / n_domains**2).to(dtype),
        presence=((rank_DE <= k).sum(0)[members].to(exact) / n_domains).to(dtype),
        candidates=candidate_E.nonzero().flatten(),
        fallback=bool(fallback),
    )
