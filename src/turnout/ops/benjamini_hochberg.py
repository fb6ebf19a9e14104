import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_amounts, refuse, wide


def benjamini_hochberg(p_N: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """p-values adjusted for the false discovery rate: reject those at most α, and a share of at most α is false.

    Benjamini & Hochberg 1995: with p sorted, q(i) = min over j ≥ i of N·p(j)/j, at most 1.

    Args:
        p_N: p-values of N tests, independent or positively dependent.
    """
    check_amounts("p_N", p_N, "N")
    if bool((p_N > 1).any()):
        refuse("p_N", "p-values from 0 to 1", p_N.max().item())
    p, order = wide(p_N).sort()
    n = len(p)
    scaled = p * n / torch.arange(1, n + 1, dtype=p.dtype, device=p.device)
    adjusted = scaled.flip(0).cummin(0).values.flip(0).clamp(max=1)
    return torch.empty_like(p).scatter_(0, order, adjusted).to(p_N.dtype)
