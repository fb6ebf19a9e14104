"""Skip the decoder layers below a change: record their output in one forward, return it in the next ones.

Layers below a masked or changed layer compute the same in every forward of the same batch.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from turnout.models.forward.router_forward import replaced_forward
from turnout.models.wrap.anatomy import MoE


def decoder_layers(moe: MoE, number: int) -> tuple[nn.Module, ...]:
    """All decoder layers, from the list that contains MoE layer `number`; empty if the model has no such list."""
    name = next(layer.name for layer in moe.layers if layer.layer == number)
    parts = name.split(".")
    at = max((i for i, part in enumerate(parts) if part == str(number)), default=0)
    stack = moe.model.get_submodule(".".join(parts[:at])) if at else None
    return tuple(stack) if isinstance(stack, nn.ModuleList) else ()


@dataclass
class Prefix:
    """Output of the decoder layers below one layer, for one batch; empty until a forward ran inside `recording`."""

    below: tuple[nn.Module, ...]
    returned: list[Any] = field(default_factory=list)

    @classmethod
    def before(cls, moe: MoE, number: int) -> "Prefix":
        """The prefix below MoE layer `number`; empty if the model has no list of decoder layers."""
        return cls(decoder_layers(moe, number)[:number])

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep the hidden states of the forward inside the block for `resuming`; earlier ones are dropped."""
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
        """Inside the block a forward of the same batch skips the layers below and starts from the recorded states."""
        assert self.returned or not self.below, "resuming before recording"
        with ExitStack() as stack:
            for module in self.below:
                stack.enter_context(replaced_forward(module, self._replay))
            yield

    @property
    def _replay(self) -> Callable[..., Any]:
        return lambda *_, **__: self.returned[0]

    def _keep(self, _: nn.Module, __: object, output: Any) -> None:
        self.returned.append(output)
