import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_amounts, refuse, wide


def holm(p_N: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """p-values adjusted for the chance of any false rejection: reject those at most α, and it is at most α.

    Holm 1979: with p sorted, q(i) = max over j ≤ i of (N − j + 1)·p(j), at most 1; whatever the tests' dependence.

    Args:
        p_N: p-values of N tests.
    """
    check_amounts("p_N", p_N, "N")
    if bool((p_N > 1).any()):
        refuse("p_N", "p-values from 0 to 1", p_N.max().item())
    p, order = wide(p_N).sort()
    n = len(p)
    scaled = p * torch.arange(n, 0, -1, dtype=p.dtype, device=p.device)
    adjusted = scaled.cummax(0).values.clamp(max=1)
    return torch.empty_like(p).scatter_(0, order, adjusted).to(p_N.dtype)
