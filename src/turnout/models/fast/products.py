"""Float32 matrix products on a CPU, through oneDNN where PyTorch would call a slower library.

For float32 PyTorch calls the BLAS it was built with. On AMD processors that is MKL's AVX2 code, half as fast as oneDNN,
which PyTorch includes and uses for bfloat16. The results are float32 either way (docs/findings/speed.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
HAS_ONEDNN = _ONEDNN is not None
MIN_PRODUCTS = 2**21  # below this many multiplications setting up oneDNN costs more than it saves


def product(rows: Tensor, matrix: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """`rows` [R, in] times `matrix` [in, out], plus `bias` [out]; differentiable once, unless written to `out`."""
    if _suits(rows, matrix):
        result = _onednn_product(rows, matrix.t(), bias)
        return result if out is None else out.copy_(result)
    return torch.mm(rows, matrix, out=out) if bias is None else torch.addmm(bias, rows, matrix, out=out)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`: [..., in] times the transposed weight [out, in], plus bias [out]."""
    return _onednn_product(rows, weight, bias) if _suits(rows, weight) else nn.functional.linear(rows, weight, bias)


@contextmanager
def fast_linears(model: nn.Module) -> Iterator[None]:
    """Inside the block the plain linear layers of `model` compute with `linear`; routers keep their own products."""
    layers = [m for m in model.modules() if type(m) is nn.Linear and "forward" not in m.__dict__]
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: nn.Linear, rows: Tensor) -> Tensor:
    return linear(rows, layer.weight, layer.bias)


def _suits(rows: Tensor, matrix: Tensor) -> bool:
    """Whether oneDNN can compute this product, and is the faster one."""
    return (
        HAS_ONEDNN
        and rows.dtype == matrix.dtype == torch.float32
        and rows.device.type == matrix.device.type == "cpu"
        and rows.numel() * matrix.numel() >= MIN_PRODUCTS * rows.shape[-1]
        and rows.numel() > 0
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


def _onednn_product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (rows, weight, bias)):
        return _Linear.apply(rows, weight, bias)
    return onednn_linear(rows, weight, bias)


def onednn_linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer's product through oneDNN, without autograd."""
    assert _ONEDNN is not None
    return _ONEDNN(rows, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """A linear layer through oneDNN. Shapes: R rows (all leading dimensions), I inputs, O outputs."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight_OI)
        return onednn_linear(rows, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight_OI = ctx.saved_tensors
        need_rows, need_weight, need_bias = ctx.needs_input_grad
        grad_RO = grad.reshape(-1, grad.shape[-1])
        grad_rows = onednn_linear(grad_RO, weight_OI.t()).view_as(rows) if need_rows else None
        grad_weight = onednn_linear(grad_RO.t(), rows.reshape(-1, rows.shape[-1]).t()) if need_weight else None
        return grad_rows, grad_weight, grad_RO.sum(0) if need_bias else None
