import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_amounts, refuse, wide


def influence_ratio(coverage: Float[Tensor, ""] | float, size: int, n_experts: int) -> Float[Tensor, ""]:
    """Influence density ratio: what a member holds over what another expert holds, (cov/|C|) / ((1 − cov)/(E − |C|)).

    CommitteeAudit (arXiv 2601.03425).

    Args:
        coverage: share that the committee holds, 0…1 (a Python float is taken as float64).
        size: |C|, 1…E.
        n_experts: E.

    Returns:
        NaN where |C| = E, for there is no other expert; infinity where the others hold nothing. audit.json has null.
    """
    share = coverage if isinstance(coverage, Tensor) else torch.tensor(coverage, dtype=torch.float64)
    check_amounts("coverage", share, "")
    if bool(share > 1):
        refuse("coverage", "a share, at most 1", share.item())
    if not 1 <= size <= n_experts:
        refuse("size", f"1 to {n_experts}, the number of experts", size)
    if size == n_experts:
        return share.new_tensor(torch.nan)
    held = wide(share)
    return ((held / size) / ((1 - held) / (n_experts - size))).to(share.dtype)
