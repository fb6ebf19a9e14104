"""Prompts through the tail with other router logits at their last tokens, and nowhere else.

Tensors are on the CPU in float32; gradients reach what is added or put in place.

Shapes: B prompts of a batch, T tokens of the flattened batch, E experts of a layer, F experts of all layers whose
routing may change, one layer after another.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from turnout.errors import ModelError
from turnout.models.anatomy import MoELayer
from turnout.models.intervene import add_to_logits
from turnout.models.padding import pad
from turnout.models.tail import Reading, Tail


@dataclass(frozen=True, eq=False)
class Heard:
    """What the model says of a batch by its own routing.

    Attributes:
        reading: letters and routing.
        entered: what entered the tail, [T, H] of each prompt.
        logits_BF: router logits z at the last tokens.
    """

    reading: Reading
    entered: list[Tensor]
    logits_BF: Tensor


@dataclass(frozen=True, eq=False)
class Steering:
    """Changes the routing of the tail's layers; use it inside `tail.opened()`."""

    tail: Tail

    @property
    def widths(self) -> list[int]:
        """E of each layer: how F is made up."""
        return [layer.n_experts for layer in self.tail.layers]

    def hear(self, prompts: Sequence[Sequence[int]]) -> Heard:
        """The whole model as it is, without gradient."""
        last_B, said = self._last(prompts), {}

        def listener(layer: MoELayer) -> Callable[..., None]:
            def listen(_: nn.Module, __: object, output: Any) -> None:
                said[layer.layer] = output[0].index_select(0, last_B.to(output[0].device)).float().cpu()

            return listen

        with ExitStack() as stack:
            for layer in self.tail.layers:
                stack.callback(layer.router.register_forward_hook(listener(layer)).remove)
            reading, entered = self.tail.whole(prompts)
        return Heard(reading, entered, torch.cat([said[layer.layer] for layer in self.tail.layers], 1))

    def added(self, prompts: Sequence[Sequence[int]], entered: Sequence[Tensor], added_BF: Tensor) -> Reading:
        """The tail with `added_BF` added to each last token's router logits."""
        with self._changed(prompts, added_BF, lambda own_BE, added_BE: added_BE.to(own_BE)):
            return self.tail.resume(prompts, entered)

    def replaced(self, prompts: Sequence[Sequence[int]], entered: Sequence[Tensor], logits_BF: Tensor) -> Reading:
        """The tail with `logits_BF` in place of each last token's router logits."""
        with self._changed(prompts, logits_BF, lambda own_BE, new_BE: new_BE.to(own_BE) - own_BE):
            return self.tail.resume(prompts, entered)

    @torch.no_grad()
    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """See that a router's own logits, put in their place again, change nothing.

        Raises:
            ModelError: they do: its scores do not follow from the product of hidden states and router rows alone.
        """
        heard = self.hear(prompts)
        again = self.replaced(prompts, heard.entered, heard.logits_BF)
        slack = 256 * torch.finfo(self.tail.moe.model.dtype).eps
        for one, other in ((heard.reading.logits_BU, again.logits_BU), (heard.reading.routing_BF, again.routing_BF)):
            if not bool((one - other).abs().max() <= slack * one.abs().max()):
                expected = "routers whose own logits, put in their place again, change nothing"
                raise ModelError(self.tail.moe.model_id, expected=expected, came="other answers")

    def _last(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Places of the last tokens in the flattened batch, as the tail pads it."""
        return pad(prompts, self.tail.padding, torch.device("cpu")).last_B

    @contextmanager
    def _changed(
        self, prompts: Sequence[Sequence[int]], values_BF: Tensor, change: Callable[[Tensor, Tensor], Tensor]
    ) -> Iterator[None]:
        last_B = self._last(prompts)

        def adding(value_BE: Tensor) -> Callable[[Tensor], Tensor]:
            def add(logits_TE: Tensor) -> Tensor:
                place_B = last_B.to(logits_TE.device)
                difference_BE = change(logits_TE.index_select(0, place_B), value_BE)
                return torch.zeros_like(logits_TE).index_copy(0, place_B, difference_BE)

            return add

        parts = zip(self.tail.layers, values_BF.split(self.widths, 1), strict=True)
        with add_to_logits(self.tail.moe, {layer.layer: adding(value_BE) for layer, value_BE in parts}):
            yield
