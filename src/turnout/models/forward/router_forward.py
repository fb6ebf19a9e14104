"""Changes inside a router's own forward: to its logits, its sigmoid scores, its top-k and its output.

Shapes: T tokens, E routed experts of a layer, K chosen experts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from turnout.errors import ModelError
from turnout.models.wrap.anatomy import MoELayer
from turnout.models.wrap.scoring import PRODUCTS

Output = tuple[Tensor, Tensor, Tensor]
"""A router's output: logits [T, E], weights [T, K], indices [T, K]."""

_SIGMOIDS = (torch.sigmoid, Tensor.sigmoid)
_CHOICES = (torch.topk, Tensor.topk)


@dataclass(frozen=True)
class Change:
    """Functions applied at the stages of one router's forward; None leaves a stage unchanged."""

    logits: Callable[[Tensor], Tensor] | None = None
    """Applied to the product [T, E] of hidden states and router rows."""
    sigmoid: Callable[[Tensor], Tensor] | None = None
    """Applied to the sigmoid scores [T, E]."""
    banned_E: Tensor | None = None
    """True for experts that no top-k may choose."""
    output: Callable[[Output], Output] | None = None
    """Applied to the router's output."""


class _ChangeMode(TorchFunctionMode):
    """Active during one call of a router: applies a change to the operations of its stages."""

    def __init__(self, n_experts: int, change: Change) -> None:
        super().__init__()
        self.n_experts, self.change, self.products, self.sigmoids = n_experts, change, 0, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`, with its input or result changed if it is the product, the sigmoid or the top-k."""
        kwargs = dict(kwargs or {})
        if func in _CHOICES and self.change.banned_E is not None:
            return self._choose(func, args, kwargs)
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor) or result.shape[-1:] != (self.n_experts,):
            return result
        if func in PRODUCTS:
            self.products += 1
            return result if self.change.logits is None else self.change.logits(result)
        if func in _SIGMOIDS and self.change.sigmoid is not None:
            self.sigmoids += 1
            return self.change.sigmoid(result)
        return result

    def _choose(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A top-k over all experts, or over each group's experts, without the banned ones; any other top-k as it is."""
        selection, *rest = args if args else (kwargs.pop("input"),)
        banned_E = self.change.banned_E
        assert banned_E is not None
        banned_E = banned_E.to(selection.device)
        in_groups = selection.ndim == 3 and selection.shape[-2:].numel() == self.n_experts
        if not in_groups and selection.shape[-1:] != (self.n_experts,):
            return func(selection, *rest, **kwargs)
        banned = banned_E.view(selection.shape[-2:]) if in_groups else banned_E
        result = func(selection.masked_fill(banned, float("-inf")), *rest, **kwargs)
        if not in_groups:
            return result
        # A group's score is the sum of its best experts'; a banned one adds 0, unless all of the group are banned.
        best, index = result
        some_left = best[..., :1] > float("-inf")
        return torch.return_types.topk((best.masked_fill(best.isneginf() & some_left, 0.0), index))


@contextmanager
def changed(changes: Iterable[tuple[MoELayer, Change]]) -> Iterator[None]:
    """Apply each change to its layer's router inside the block."""
    with ExitStack() as stack:
        for layer, change in changes:
            stack.enter_context(replaced_forward(layer.router, _wrapped(layer, change)))
        yield


def _wrapped(layer: MoELayer, change: Change) -> Callable[..., Any]:
    forward = layer.router.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        with _ChangeMode(layer.n_experts, change) as mode:
            output = forward(*args, **kwargs)
        if change.logits is not None and mode.products != 1:
            received = f"{mode.products} in {type(layer.router).__name__}"
            raise ModelError(where(layer), expected="one product of hidden states and router rows", received=received)
        if change.sigmoid is not None and mode.sigmoids != 1:
            received = f"{mode.sigmoids} in {type(layer.router).__name__}"
            raise ModelError(where(layer), expected="one sigmoid over all experts", received=received)
        return output if change.output is None else change.output(output)

    return run


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """`module` runs `forward` inside the block; its previous `forward` (accelerate's, say) is restored after it."""
    own, before = "forward" in module.__dict__, module.forward
    module.forward = forward
    try:
        yield
    finally:
        if own:
            module.forward = before
        else:
            del module.forward


def where(layer: MoELayer) -> str:
    """The layer, as an error names it."""
    return f"layer {layer.layer}"
