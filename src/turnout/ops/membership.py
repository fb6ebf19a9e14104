import math

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from turnout.ops._inputs import refuse
from turnout.ops.ranks import ranks


def membership(
    contribution_DE: Float[Tensor, "*R D E"], k: int, presence: float = 0.8
) -> tuple[Bool[Tensor, "*R E"], Bool[Tensor, "*R E"], Bool[Tensor, "*R"]]:
    """Which experts are candidates and which are the committee, for any number of contributions at once.

    The rule of `committee`, where it is written out.

    Returns:
        candidate […, E], member […, E] and fallback […].
    """
    if not 0 < presence <= 1:
        refuse("presence", "a share above 0 and at most 1", presence)
    rank_DE = ranks(contribution_DE, k)
    n_domains = rank_DE.shape[-2]
    present_E = (rank_DE <= k).sum(-2)
    needed = math.ceil(round(presence * n_domains, 9))  # 0.07·100 is 7.000000000000001 in floats, and 7 domains suffice
    most = present_E.amax(-1, keepdim=True)
    candidate_E = present_E >= most.clamp(max=needed)
    total_E, spread_E = rank_sums(rank_DE)
    return candidate_E, candidate_E & ~_dominated(total_E, spread_E, candidate_E), most.squeeze(-1) < needed


def rank_sums(rank_DE: Int64[Tensor, "*R D E"]) -> tuple[Int64[Tensor, "*R E"], Int64[Tensor, "*R E"]]:
    """Σr and D·Σr² − (Σr)²: whole numbers in the place of mean and variance of rank, which compare exactly."""
    total_E = rank_DE.sum(-2)
    return total_E, rank_DE.shape[-2] * rank_DE.square().sum(-2) - total_E.square()


def _dominated(total_E: Tensor, spread_E: Tensor, candidate_E: Tensor) -> Tensor:
    """[…, E]: some candidate is no worse in both and better in one."""
    no_worse = (total_E[..., :, None] <= total_E[..., None, :]) & (spread_E[..., :, None] <= spread_E[..., None, :])
    same = (total_E[..., :, None] == total_E[..., None, :]) & (spread_E[..., :, None] == spread_E[..., None, :])
    return (no_worse & ~same & candidate_E[..., :, None]).any(-2)
