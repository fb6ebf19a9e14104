from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import wide
from turnout.ops.membership import membership, rank_sums
from turnout.ops.ranks import ranks


@dataclass(frozen=True, eq=False)
class Committee:
    """A layer's committee: M members in order of mean rank, then index; all but `candidates` aligned with `members`."""

    members: Tensor
    """int64 [M]: the Pareto set of mean rank and rank variance among the candidates."""
    mean_rank: Tensor
    """[M]: mean over domains of the rank, 1…K+1."""
    rank_variance: Tensor
    """[M]: population variance over domains of the rank."""
    presence: Tensor
    """[M]: share of domains whose first K hold the expert."""
    candidates: Tensor
    """int64 [C], by index: the experts present in enough domains."""
    fallback: bool
    """No expert was present in enough domains, so that those of greatest presence are the candidates."""


def committee(contribution_DE: Float[Tensor, "D E"], k: int, presence: float = 0.8) -> Committee:
    """The small set of experts that rank high, and steadily so, whatever the domain.

    CommitteeAudit (arXiv 2601.03425). Candidates are in the first k of at least ceil(presence·D) domains (the released
    code's reading; the paper writes "> 0.8", the same at nine domains); the committee is their Pareto set of mean and
    population variance of rank, both small. Exact duplicates both stay. If no expert is present enough, those of
    greatest presence are the candidates and `fallback` is true (the released code's rule).

    Args:
        contribution_DE: contribution by domain and expert.
        k: experts chosen for a token, the model's own K.
        presence: least share of domains, above 0 and at most 1.
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
