from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from turnout.ops._inputs import check_shape, refuse, wide
from turnout.ops.gate_norms import product_norms

_View = Callable[[Tensor], Tensor]


def activation_norms(proxies_NH: Float[Tensor, "N H"], gate_NHI: Float[Tensor, "N H I"]) -> Float[Tensor, "N N"]:
    """M[i, j] = ‖R̃[i] W_g^j‖₂: how strongly expert j's gate answers proxy i; row = proxy, column = expert.

    Step 2 of the ERC loss (arXiv 2512.23447): before the activation, without a norm on the input. Differentiable once,
    in both. Neither forward nor backward holds N²·I numbers: one expert's [N, I] at a time, computed again in backward.
    Products are in the weights' dtype, also under autocast; squares are summed in at least float32.

    Args:
        proxies_NH: R̃, one row an expert.
        gate_NHI: each expert's gate matrix [H, I], strided as it likes: views of a larger parameter are not copied.

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
    """`activation_norms` of the gate matrices inside a larger parameter.

    The same numbers; but backward writes the gradient straight into one of the parameter's shape, where autograd's
    gradient of a slice would make the slice's own first and then copy it.

    Args:
        proxies_NH: R̃, one row an expert.
        fused: the parameter.
        gate_in: the view [N, H, I] of such a parameter, or of its gradient, that is the gate matrices.
        unit_gates: M[i, j] / ‖W_g^j‖_F, which `scale_free` divides by as well; 0 where that length is 0.
        rest_in: the view of all that `gate_in` leaves out, whose gradient is 0. Without it everything is set to 0 and
            the gates' part written over: the same, and slower.
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
        """d‖a‖ = a·da / ‖a‖, with a = R̃[i] W_g^j computed again; and d(‖a‖/l) = d‖a‖/l − (‖a‖/l)·W·dW/l²."""
        proxies_NH, fused, norms_NN, lengths_N = ctx.saved_tensors
        to_proxies, to_fused, *_ = ctx.needs_input_grad
        scale_NN = (grad_NN / (norms_NN * lengths_N**2)).where(norms_NN != 0, 0).to(fused.dtype)
        pull_N = -((grad_NN * norms_NN).sum(0) / lengths_N**2).to(fused.dtype)
        # The sum over experts is kept wide: N products of half precision would round N times.
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
    """A gradient for `fused`: 0 wherever the gates are not; where they are, something that is written over."""
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
