import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_shape, wide
from turnout.ops.noise_bound import noise_bound


def proxies(router_NH: Float[Tensor, "N H"], generator: torch.Generator) -> Float[Tensor, "N H"]:
    """A token that stands for each expert: its router row with noise, R̃[i] = R[i] ⊙ δ_i, δ ~ U(1 − ε_i, 1 + ε_i).

    The ERC loss' proxies (arXiv 2512.23447), ε being `noise_bound`. Differentiable in R through the product; δ is a
    constant.

    Args:
        router_NH: R, one row an expert.
        generator: draws δ, N·H numbers, on its own device: the same seed gives the same noise on any device.
    """
    check_shape("router_NH", router_NH, "N H")
    rows_NH = wide(router_NH)
    shift_NH = torch.rand(rows_NH.shape, generator=generator, dtype=rows_NH.dtype, device=generator.device)
    shift_NH = (2 * shift_NH - 1).to(rows_NH.device)
    factor_NH = 1 + noise_bound(rows_NH.detach())[:, None] * shift_NH
    return (rows_NH * factor_NH).to(router_NH.dtype)
