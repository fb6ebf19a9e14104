"""Run a batch from a decoder layer on, with what entered that layer before: layers below a change compute the same."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from turnout.models.forward.router_forward import replaced_forward
from turnout.models.wrap.anatomy import MoE


def decoder_layers(moe: MoE, number: int) -> tuple[nn.Module, ...]:
    """All decoder layers, found as the list that holds the MoE layer `number`; none if the model keeps no such list."""
    name = next(layer.name for layer in moe.layers if layer.layer == number)
    parts = name.split(".")
    at = max((i for i, part in enumerate(parts) if part == str(number)), default=0)
    stack = moe.model.get_submodule(".".join(parts[:at])) if at else None
    return tuple(stack) if isinstance(stack, nn.ModuleList) else ()


@dataclass
class Prefix:
    """What the decoder layers below one layer returned for one batch; empty until a forward ran within `recording`."""

    below: tuple[nn.Module, ...]
    returned: list[Any] = field(default_factory=list)

    @classmethod
    def before(cls, moe: MoE, number: int) -> "Prefix":
        """Of the layers below the MoE layer `number`; of none if the model keeps them in no list."""
        return cls(decoder_layers(moe, number)[:number])

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The forward inside is kept for `resuming`, in place of the one before: one tensor of hidden states."""
        if not self.below:
            yield
            return
        self.returned.clear()
        handle = self.below[-1].register_forward_hook(self._keep)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def resuming(self) -> Iterator[None]:
        """A forward of the same batch inside computes none of the layers below."""
        assert self.returned or not self.below, "nothing was recorded"
        with ExitStack() as stack:
            for module in self.below:
                stack.enter_context(replaced_forward(module, self._again))
            yield

    @property
    def _again(self) -> Callable[..., Any]:
        return lambda *_, **__: self.returned[0]

    def _keep(self, _: nn.Module, __: object, output: Any) -> None:
        self.returned.append(output)
