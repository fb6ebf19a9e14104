import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import refuse, wide
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
    if not 0 < presence <= 1:
        refuse("presence", "a share above 0 and at most 1", presence)
    rank_DE = ranks(contribution_DE, k)
    n_domains = len(rank_DE)
    present_E = (rank_DE <= k).sum(0)
    needed = math.ceil(round(presence * n_domains, 9))  # 0.07·100 is 7.000000000000001 in floats, and 7 domains suffice
    fallback = bool(present_E.max() < needed)
    candidates = (present_E >= (present_E.max() if fallback else needed)).nonzero().flatten()
    # Whole numbers in the place of mean and variance: Σr and D·Σr² − (Σr)² compare exactly.
    total = rank_DE.sum(0)[candidates]
    spread = n_domains * rank_DE.square().sum(0)[candidates] - total.square()
    kept = ~_dominated(total, spread)
    kept = kept.nonzero().flatten()[total[kept].argsort(stable=True)]
    members, dtype, exact = candidates[kept], contribution_DE.dtype, wide(contribution_DE).dtype
    return Committee(
        members=members,
        mean_rank=(total[kept].to(exact) / n_domains).to(dtype),
        rank_variance=(spread[kept].to(exact) / n_domains**2).to(dtype),
        presence=(present_E[members].to(exact) / n_domains).to(dtype),
        candidates=candidates,
        fallback=fallback,
    )


def _dominated(total: Tensor, spread: Tensor) -> Tensor:
    """[C] bool: some other candidate is no worse in both and better in one."""
    no_worse = (total[:, None] <= total) & (spread[:, None] <= spread)
    better = (total[:, None] < total) | (spread[:, None] < spread)
    return (no_worse & better).any(0)
