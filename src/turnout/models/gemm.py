"""Float32 matrix products on CPU through oneDNN.

PyTorch sends float32 products to MKL, which leaves AVX-512 unused on processors of other makers: measured on an AMD
EPYC, one thread, MKL reaches 70-100 GFLOP/s where oneDNN reaches 150-230. bfloat16 products go to oneDNN already.
`onednn_linear()` sends `F.linear` there while it is entered, forward and backward; where oneDNN's product is not to be
had, or the tensors are not float32 on the CPU, it changes nothing.

Shape suffixes: T tokens, I inputs, O outputs.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
_plain_linear = torch.nn.functional.linear


def _product(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias` by oneDNN; any strides."""
    return _ONEDNN(x_TI, weight_OI, bias_O, "none", [], "")  # type: ignore[misc]  # asked for only where it is there


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight_OI)
        ctx.has_bias = bias_O is not None
        return _product(x, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight_OI = ctx.saved_tensors
        grad_TO = grad.reshape(-1, grad.shape[-1])
        need_x, need_weight, need_bias = ctx.needs_input_grad
        grad_x = _product(grad_TO, weight_OI.t()).view_as(x) if need_x else None
        grad_weight = _product(grad_TO.t(), x.reshape(-1, x.shape[-1]).t()) if need_weight else None
        return grad_x, grad_weight, grad_TO.sum(0) if need_bias and ctx.has_bias else None


def linear(
    input: Tensor,  # noqa: A002  F.linear's own names
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """`F.linear` (whose argument names it keeps), by oneDNN where that is faster.

    Args:
        input: [..., I].
        weight: [O, I].
        bias: [O] or None.

    Returns:
        [..., O]; differentiable once in every argument.
    """
    if not _goes_to_onednn(input, weight):
        return _plain_linear(input, weight, bias)
    if torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad):
        return _Linear.apply(input, weight, bias)
    return _product(input, weight, bias)


def _goes_to_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        _ONEDNN is not None
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


class onednn_linear(TorchFunctionMode):  # noqa: N801  entered like torch.no_grad
    """While entered, every `F.linear` of this thread goes through `linear`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take `F.linear` aside and leave all else."""
        if func is _plain_linear:
            return linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
