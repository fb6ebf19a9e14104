from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from turnout.ops._inputs import check_shape, refuse, wide
from turnout.ops.gate_norms import product_norms


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
    check_shape("proxies_NH", proxies_NH, "N H")
    check_shape("gate_NHI", gate_NHI, "N H I")
    if gate_NHI.shape[:2] != proxies_NH.shape:
        refuse("gate_NHI", f"shape {[*proxies_NH.shape, 'I']}, a matrix for each proxy", list(gate_NHI.shape))
    return _ActivationNorms.apply(proxies_NH.to(gate_NHI.dtype), gate_NHI)


class _ActivationNorms(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, proxies_NH: Tensor, gate_NHI: Tensor) -> Tensor:
        dtype = wide(gate_NHI[:0]).dtype
        norms_NN = torch.empty(len(gate_NHI), len(gate_NHI), dtype=dtype, device=gate_NHI.device)
        with torch.autocast(gate_NHI.device.type, enabled=False):
            for expert, gate_HI in enumerate(gate_NHI):
                norms_NN[:, expert] = product_norms(proxies_NH, gate_HI)
        ctx.save_for_backward(proxies_NH, gate_NHI, norms_NN)
        return norms_NN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NN: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """d‖a‖ = a·da / ‖a‖, with a = R̃[i] W_g^j computed again."""
        proxies_NH, gate_NHI, norms_NN = ctx.saved_tensors
        to_proxies, to_gate = ctx.needs_input_grad
        scale_NN = (grad_NN / norms_NN).where(norms_NN != 0, 0).to(gate_NHI.dtype)
        # The sum over experts is kept wide: N products of half precision would round N times.
        grad_NH = torch.zeros_like(proxies_NH, dtype=norms_NN.dtype) if to_proxies else None
        grad_NHI = torch.empty_like(gate_NHI) if to_gate else None
        with torch.autocast(gate_NHI.device.type, enabled=False):
            for expert, gate_HI in enumerate(gate_NHI):
                inner_NI = (proxies_NH @ gate_HI).mul_(scale_NN[:, expert, None])
                if grad_NH is not None:
                    _add_product(grad_NH, inner_NI, gate_HI.T)
                if grad_NHI is not None:
                    torch.mm(proxies_NH.T, inner_NI, out=grad_NHI[expert])
        return None if grad_NH is None else grad_NH.to(proxies_NH.dtype), grad_NHI


def _add_product(sum_NH: Tensor, inner_NI: Tensor, gate_IH: Tensor) -> None:
    """Add inner·gate in place, without a temporary where the dtypes allow."""
    if sum_NH.dtype == inner_NI.dtype:
        sum_NH.addmm_(inner_NI, gate_IH)
    else:
        sum_NH += inner_NI @ gate_IH
