"""The expert–router coupling (ERC) loss and its parts (arXiv 2512.23447).

Shapes: N rows of a router (routed experts), H hidden size, I expert width, T tokens.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from turnout.ops._inputs import check_shape, refuse, wide


@torch.no_grad()
def noise_bound(router_NH: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
    """Bound on relative noise with which each router row stays nearest to itself.

    ε_i = min over j ≠ i of ‖R[i] − R[j]‖ / (2·‖R[i]‖): the ERC loss' bound (arXiv 2512.23447). Without gradient. It is
    0 (ours) for a row of zeros, a row that occurs twice, and a single row, which has no neighbor.

    Args:
        router_NH: R, one row an expert.
    """
    check_shape("router_NH", router_NH, "N H")
    rows_NH = wide(router_NH)
    if len(rows_NH) == 1:
        return torch.zeros_like(router_NH[:, 0])
    # Differences, not products: in products the distance of nearly equal rows is lost to rounding.
    distance_NN = torch.cdist(rows_NH, rows_NH, compute_mode="donot_use_mm_for_euclid_dist")
    nearest_N = distance_NN.fill_diagonal_(torch.inf).amin(1)
    length_N = torch.linalg.vector_norm(rows_NH, dim=1)
    return (nearest_N / (2 * length_N)).where(length_N != 0, 0).to(router_NH.dtype)


def proxies(router_NH: Float[Tensor, "N H"], generator: torch.Generator) -> Float[Tensor, "N H"]:
    """Proxy token of each expert: its router row with noise, R̃[i] = R[i] ⊙ δ_i, δ_i ~ U(1 − ε_i, 1 + ε_i).

    The ERC loss' proxies (arXiv 2512.23447), with ε from `noise_bound`. Differentiable in R through the product; δ is
    constant.

    Args:
        router_NH: R, one row an expert.
        generator: source of δ, N·H numbers drawn on its own device: the same seed gives the same noise on any device.
    """
    check_shape("router_NH", router_NH, "N H")
    rows_NH = wide(router_NH)
    shift_NH = torch.rand(rows_NH.shape, generator=generator, dtype=rows_NH.dtype, device=generator.device)
    shift_NH = (2 * shift_NH - 1).to(rows_NH.device)
    factor_NH = 1 + noise_bound(rows_NH.detach())[:, None] * shift_NH
    return (rows_NH * factor_NH).to(router_NH.dtype)


def gate_norms(inputs_TH: Float[Tensor, "T H"], gate_HI: Float[Tensor, "H I"]) -> Float[Tensor, "T"]:
    """‖x W_g‖₂ of each input x: the norm of one expert's gate activations, before the activation function.

    With the router's rows as inputs it is the expert's column of M (arXiv 2512.23447, step 2), which `activation_norms`
    computes for all experts. The product is in the gate's dtype; squares are summed in at least float32.

    Returns:
        [T], float64 where `gate_HI` is, else float32.
    """
    check_shape("inputs_TH", inputs_TH, "T H")
    check_shape("gate_HI", gate_HI, "H I")
    if len(gate_HI) != inputs_TH.shape[1]:
        refuse("gate_HI", f"shape [{inputs_TH.shape[1]}, 'I'], as wide as the inputs", list(gate_HI.shape))
    with torch.autocast(gate_HI.device.type, enabled=False):
        return product_norms(inputs_TH.to(gate_HI.dtype), gate_HI)


def product_norms(inputs_TH: Tensor, gate_HI: Tensor) -> Tensor:
    """`gate_norms` of tensors of one dtype, without checks, for every training step."""
    return torch.linalg.vector_norm(inputs_TH @ gate_HI, dim=1, dtype=wide(gate_HI[:0]).dtype)


_View = Callable[[Tensor], Tensor]


def activation_norms(proxies_NH: Float[Tensor, "N H"], gate_NHI: Float[Tensor, "N H I"]) -> Float[Tensor, "N N"]:
    """M[i, j] = ‖R̃[i] W_g^j‖₂: norm of expert j's gate activations for proxy i; row = proxy, column = expert.

    Step 2 of the ERC loss (arXiv 2512.23447): before the activation function, without a norm on the input.
    Differentiable once, in both. Neither forward nor backward allocates N²·I numbers: one expert's [N, I] at a time,
    recomputed in backward. Products are in the weights' dtype, also under autocast; squares are summed in at least
    float32.

    Args:
        proxies_NH: R̃, one row an expert.
        gate_NHI: each expert's gate matrix [H, I], of any strides: views of a larger parameter are not copied.

    Returns:
        [N, N], float64 where `gate_NHI` is, else float32. The gradient of a norm of 0 is 0.
    """
    return fused_activation_norms(proxies_NH, gate_NHI, _itself)


def fused_activation_norms(
    proxies_NH: Float[Tensor, "N H"],
    fused: Float[Tensor, "..."],
    gate_in: Callable[[Float[Tensor, "..."]], Float[Tensor, "N H I"]],
    unit_gates: bool = False,
    rest_in: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]] | None = None,
) -> Float[Tensor, "N N"]:
    """`activation_norms` of the gate matrices inside a larger parameter, without a copy of their gradient.

    The same numbers. Backward writes the gradient into a tensor of the parameter's shape, where autograd would allocate
    the slice's gradient first and then copy it.

    Args:
        proxies_NH: R̃, one row an expert.
        fused: the parameter.
        gate_in: returns the view [N, H, I] of the gate matrices in the parameter or in its gradient.
        unit_gates: M[i, j] / ‖W_g^j‖_F, as `scale_free` divides too; 0 where that norm is 0.
        rest_in: returns the view of everything outside `gate_in`, whose gradient is 0. None: all of it is set to 0 and
            the gates' part overwritten, which is slower.
    """
    check_shape("proxies_NH", proxies_NH, "N H")
    gate_NHI = gate_in(fused.detach())
    check_shape("gate_NHI", gate_NHI, "N H I")
    if gate_NHI.shape[:2] != proxies_NH.shape:
        refuse("gate_NHI", f"shape {[*proxies_NH.shape, 'I']}, a matrix for each proxy", list(gate_NHI.shape))
    return _ActivationNorms.apply(proxies_NH.to(fused.dtype), fused, gate_in, unit_gates, rest_in)


def _itself(gate_NHI: Tensor) -> Tensor:
    return gate_NHI


class _ActivationNorms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, proxies_NH: Tensor, fused: Tensor, gate_in: _View, unit_gates: bool, rest_in: _View | None
    ) -> Tensor:
        gate_NHI, dtype = gate_in(fused), wide(fused[:0]).dtype
        norms_NN = fused.new_empty(len(gate_NHI), len(gate_NHI), dtype=dtype)
        lengths_N = fused.new_ones(len(gate_NHI), dtype=dtype)
        with torch.autocast(fused.device.type, enabled=False):
            for expert, gate_HI in enumerate(gate_NHI):
                norms_NN[:, expert] = product_norms(proxies_NH, gate_HI)
                if unit_gates:
                    lengths_N[expert] = torch.linalg.vector_norm(gate_HI, dtype=dtype)
        lengths_N = lengths_N.where(lengths_N != 0, 1)  # the norms are 0 there
        norms_NN /= lengths_N
        ctx.save_for_backward(proxies_NH, fused, norms_NN, lengths_N)
        ctx.gate_in, ctx.unit_gates, ctx.rest_in = gate_in, unit_gates, rest_in
        return norms_NN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NN: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        """d‖a‖ = a·da / ‖a‖, with a = R̃[i] W_g^j recomputed; and d(‖a‖/l) = d‖a‖/l − (‖a‖/l)·W·dW/l²."""
        proxies_NH, fused, norms_NN, lengths_N = ctx.saved_tensors
        to_proxies, to_fused, *_ = ctx.needs_input_grad
        scale_NN = (grad_NN / (norms_NN * lengths_N**2)).where(norms_NN != 0, 0).to(fused.dtype)
        pull_N = -((grad_NN * norms_NN).sum(0) / lengths_N**2).to(fused.dtype)
        # The sum over experts is in at least float32: N products of half precision would be rounded N times.
        grad_NH = torch.zeros_like(proxies_NH, dtype=norms_NN.dtype) if to_proxies else None
        grad_fused = _zero_outside(fused, ctx.gate_in, ctx.rest_in) if to_fused else None
        grad_NHI = None if grad_fused is None else ctx.gate_in(grad_fused)
        with torch.autocast(fused.device.type, enabled=False):
            for expert, gate_HI in enumerate(ctx.gate_in(fused)):
                inner_NI = (proxies_NH @ gate_HI).mul_(scale_NN[:, expert, None])
                if grad_NH is not None:
                    _add_product(grad_NH, inner_NI, gate_HI.T)
                if grad_NHI is not None:
                    torch.mm(proxies_NH.T, inner_NI, out=grad_NHI[expert])
                    if ctx.unit_gates:
                        grad_NHI[expert].addcmul_(gate_HI, pull_N[expert])
        return None if grad_NH is None else grad_NH.to(proxies_NH.dtype), grad_fused, None, None, None


def _zero_outside(fused: Tensor, gate_in: _View, rest_in: _View | None) -> Tensor:
    """A gradient for `fused`: 0 outside the gates, uninitialized inside."""
    grad = torch.empty_like(fused)
    if rest_in is not None:
        rest_in(grad).zero_()
    elif gate_in(grad).numel() != grad.numel():
        grad.zero_()
    return grad


def _add_product(sum_NH: Tensor, inner_NI: Tensor, gate_IH: Tensor) -> None:
    """Add inner·gate in place, without a temporary where the dtypes allow."""
    if sum_NH.dtype == inner_NI.dtype:
        sum_NH.addmm_(inner_NI, gate_IH)
    else:
        sum_NH += inner_NI @ gate_IH


def erc_loss(norms_NN: Float[Tensor, "N N"], alpha: float | int) -> Float[Tensor, ""]:
    """ERC loss: by how much the norms of other proxies, or of other experts, exceed α times each pair's own norm.

    L = (1/N²) Σ_i Σ_{j≠i} [max(M[i,j] − α·M[i,i], 0) + max(M[j,i] − α·M[i,i], 0)] (arXiv 2512.23447). 0 where every
    diagonal of αM is the largest of its row and column; 0 for N = 1.

    Args:
        norms_NN: M, row = proxy, column = expert.
        alpha: α, at least 0; below 1 requires a margin, above 1 allows one.
    """
    check_shape("norms_NN", norms_NN, "N N")
    if norms_NN.shape[0] != norms_NN.shape[1]:
        refuse("norms_NN", "as many rows as columns", list(norms_NN.shape))
    if not (math.isfinite(alpha) and alpha >= 0):
        refuse("alpha", "a finite number of at least 0", alpha)
    norms = wide(norms_NN)
    own_N = alpha * norms.diagonal()
    excess_NN = (norms - own_N[:, None]).relu() + (norms - own_N[None, :]).relu()
    diagonal_NN = torch.eye(len(norms), dtype=torch.bool, device=norms.device)
    return (excess_NN.masked_fill(diagonal_NN, 0).sum() / len(norms) ** 2).to(norms_NN.dtype)


def erc_cost(n: int, k: int, tokens: float, dp: int = 1, ep: int = 1) -> float:
    """Cost of the ERC loss in a training step, as a share of the cost of the MoE layers' products.

    (N · (N/ep) / 3) / (K · T/dp), arXiv 2512.23447: M is N² products of a row with a gate matrix, 2·N²·I·H FLOPs, as
    much as N²/(3·K) tokens at 6·K·I·H each. The share is the same forward and backward if backward costs twice the
    forward in both; where M's products are recomputed in backward (`activation_norms`), the share is 4/3 of it.

    >>> round(100 * erc_cost(64, 8, 3e6, dp=32), 2)
    0.18

    Args:
        n: N, experts of a layer.
        k: K, experts chosen a token.
        tokens: T, tokens of a step, over all devices.
        dp: data-parallel devices, which divide the tokens.
        ep: expert-parallel devices, which divide the experts.
    """
    for name, value in (("n", n), ("k", k), ("tokens", tokens), ("dp", dp), ("ep", ep)):
        if not value > 0:
            refuse(name, "a number above 0", value)
    return (n * (n / ep) / 3) / (k * tokens / dp)
