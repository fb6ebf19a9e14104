"""Matrix products in inference, through oneDNN where PyTorch would take a slower library.

For float32 PyTorch calls the BLAS it was built with. On AMD processors that is MKL's AVX2 code, half as fast as oneDNN,
which PyTorch carries anyway and uses for bfloat16 only. The figures are float32 either way (docs/speed.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_WORTH = 2**21  # multiplications below which setting oneDNN up costs more than it saves


def product(rows: Tensor, matrix: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """`rows` [R, in] times `matrix` [in, out], plus `bias`; written to `out` if given, out of autograd's sight."""
    if _suits(rows, matrix):
        result = _onednn(rows, matrix.t(), bias)
        return result if out is None else out.copy_(result)
    return torch.mm(rows, matrix, out=out) if bias is None else torch.addmm(bias, rows, matrix, out=out)


@contextmanager
def fast_linears(model: nn.Module) -> Iterator[None]:
    """Inside it the plain linear layers of `model` use `product`'s library; routers keep to theirs."""
    layers = [m for m in model.modules() if type(m) is nn.Linear and "forward" not in m.__dict__]
    if not _ONEDNN:
        layers = []
    for layer in layers:
        layer.forward = partial(_linear, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _linear(layer: nn.Linear, rows: Tensor) -> Tensor:
    if _suits(rows, layer.weight):
        return _onednn(rows, layer.weight, layer.bias)
    return linear(rows, layer.weight, layer.bias)


def _suits(rows: Tensor, matrix: Tensor) -> bool:
    """Whether oneDNN may do this product, and would be the faster one."""
    return (
        _ONEDNN
        and rows.dtype == matrix.dtype == torch.float32
        and rows.device.type == matrix.device.type == "cpu"
        and rows.numel() * matrix.numel() >= _WORTH * rows.shape[-1]
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def _onednn(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
