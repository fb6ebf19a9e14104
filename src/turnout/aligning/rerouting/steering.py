"""Routing and router logits of several layers; prompts through the tail with other router logits at their last tokens.

ω is p, the score of every expert (r in METHODS §2). The chosen experts and their weights follow from it by the model's
own rules, so an ω fits routers of every kind. Tensors are on the CPU in float32.

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
from turnout.models.change.intervene import add_to_logits
from turnout.models.forward.batches import pad
from turnout.models.forward.last_token import LastToken
from turnout.models.forward.reading import Reading, alike
from turnout.models.forward.tail import Tail
from turnout.models.wrap.anatomy import MoELayer

_LEAST, _MOST = 1e-30, 1 - 1e-6  # scores of which logits are taken


def scores(layers: Sequence[MoELayer], logits_BF: Tensor) -> Tensor:
    """Scores p [B, F] of router logits; those of a layer sum to 1."""
    parts = logits_BF.split([layer.n_experts for layer in layers], 1)
    return torch.cat([layer.scores(part_BE) for layer, part_BE in zip(layers, parts, strict=True)], 1)


def logits(layers: Sequence[MoELayer], routing_BF: Tensor, own_BF: Tensor) -> Tensor:
    """Router logits [B, F] whose scores are `routing_BF`, with each layer scaled to a sum of 1.

    For a softmax: log ω. For a sigmoid, whose scores are divided by their sum: the logits whose sum of scores is that
    of the question's own logits `own_BF`, so that its own ω gives its own logits; less where a score would exceed 1.
    """
    widths = [layer.n_experts for layer in layers]
    parts = zip(layers, routing_BF.split(widths, 1), own_BF.split(widths, 1), strict=True)
    return torch.cat([_logits(layer, omega_BE, own_BE) for layer, omega_BE, own_BE in parts], 1)


def core(layers: Sequence[MoELayer], routing_BF: Tensor, n: int) -> Tensor:
    """Whether an expert is among the `n` of its layer's greatest scores, [B, F]; ties by index."""
    parts = routing_BF.split([layer.n_experts for layer in layers], 1)
    return torch.cat([_greatest(part_BE, n) for part_BE in parts], 1)


def _logits(layer: MoELayer, routing_BE: Tensor, own_BE: Tensor) -> Tensor:
    share_BE = routing_BE / routing_BE.sum(1, keepdim=True)
    if layer.scoring == "softmax":
        return share_BE.clamp_min(_LEAST).log()
    total_B1 = own_BE.sigmoid().sum(1, keepdim=True).minimum(_MOST / share_BE.amax(1, keepdim=True))
    return (share_BE * total_B1).clamp(_LEAST, _MOST).logit()


def _greatest(routing_BE: Tensor, n: int) -> Tensor:
    place_BE = routing_BE.sort(dim=1, descending=True, stable=True).indices[:, :n]
    return torch.zeros_like(routing_BE, dtype=torch.bool).scatter(1, place_BE, True)


@dataclass(frozen=True, eq=False)
class BaseForward:
    """Output of the whole model for a batch, with its own routing.

    Attributes:
        reading: letter logits and routing.
        states: the tail's input, [T, H] of each prompt.
        logits_BF: router logits z at the last tokens.
    """

    reading: Reading
    states: list[Tensor]
    logits_BF: Tensor


@dataclass(frozen=True, eq=False)
class TailPrompts:
    """Prompts to run through the tail, several times if need be.

    Attributes:
        tail: the layers.
        prompts: token ids.
        states: the tail's input, [T, H] of each prompt.
        last: the last tokens with a cache of all tokens before them; None: whole prompts run.
    """

    tail: Tail
    prompts: Sequence[Sequence[int]]
    states: Sequence[Tensor]
    last: LastToken | None

    @property
    def last_B(self) -> Tensor:  # noqa: N802  a shape suffix
        """Places of the last tokens in the flattened batch that a router receives."""
        if self.last is not None:
            return torch.arange(len(self.prompts))
        return pad(self.prompts, self.tail.padding, torch.device("cpu")).last_B

    def read(self) -> Reading:
        """One forward of the tail; with gradient where enabled."""
        return self.tail.resume(self.prompts, self.states) if self.last is None else self.last.read()

    def select(self, rows: Tensor) -> "TailPrompts":
        """Some of the prompts."""
        chosen = rows.tolist()
        prompts, last = [self.prompts[i] for i in chosen], None if self.last is None else self.last.of_rows(rows)
        return TailPrompts(self.tail, prompts, [self.states[i] for i in chosen] if self.states else [], last)


@dataclass(frozen=True, eq=False)
class Steering:
    """Changes the routing of the tail's layers at the last tokens; use it inside `tail.opened()`.

    Attributes:
        tail: the layers.
        cached: whether last tokens run alone, with a cache of the tokens before them: the same figures, much faster.
    """

    tail: Tail
    cached: bool = False

    @classmethod
    @torch.no_grad()
    def checked(cls, tail: Tail, prompts: Sequence[Sequence[int]]) -> "Steering":
        """The steering of a tail, checked on `prompts`: routers' own logits in their own place must change nothing.

        Last tokens run alone if that gives the same figures too.

        Raises:
            ModelError: a family whose router returns scores, or whose scores do not follow from the product of hidden
                states and router rows alone.
        """
        for layer in tail.layers:
            if layer.scoring == "scores":
                received = f"{type(layer.router).__name__}, which returns scores"
                raise ModelError(f"layer {layer.layer}", expected="a router that returns its logits", received=received)
        slow, fast, dtype = cls(tail), cls(tail, cached=True), tail.moe.model.dtype
        base = slow.run_base(prompts)
        if not alike(base.reading, slow.with_replaced(slow.prompts(prompts, base.states), base.logits_BF), dtype):
            expected = "routers whose own logits, put in their place again, change nothing"
            raise ModelError(tail.moe.model_id, expected=expected, received="other answers")
        try:
            ready = fast.prompts(prompts, base.states)
            repeated = [fast.with_replaced(ready, base.logits_BF) for _ in range(2)]  # a cache must survive its use
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):  # a family with its own cache
            return slow
        return fast if all(alike(base.reading, reading, dtype) for reading in repeated) else slow

    @property
    def widths(self) -> list[int]:
        """Number of experts of each layer, in the order of F."""
        return [layer.n_experts for layer in self.tail.layers]

    def run_base(self, prompts: Sequence[Sequence[int]]) -> BaseForward:
        """Run the whole model with its own routing, without gradient."""
        last_B = pad(prompts, self.tail.padding, torch.device("cpu")).last_B
        logits_of: dict[int, Tensor] = {}

        def hook(layer: MoELayer) -> Callable[..., None]:
            def keep(_: nn.Module, __: object, output: Any) -> None:
                logits_of[layer.layer] = output[0].index_select(0, last_B.to(output[0].device)).float().cpu()

            return keep

        with ExitStack() as stack:
            for layer in self.tail.layers:
                stack.callback(layer.router.register_forward_hook(hook(layer)).remove)
            reading, states = self.tail.run_model(prompts)
        return BaseForward(reading, states, torch.cat([logits_of[layer.layer] for layer in self.tail.layers], 1))

    def prompts(self, prompts: Sequence[Sequence[int]], states: Sequence[Tensor], repeated: bool = True) -> TailPrompts:
        """Prompts to run with changed routing; a cache is built only for `repeated` runs."""
        alone = self.cached and repeated and all(len(prompt) > 1 for prompt in prompts)
        return TailPrompts(self.tail, prompts, states, LastToken.of(self.tail, prompts, states) if alone else None)

    def with_added(self, prompts: TailPrompts, added_BF: Tensor) -> Reading:
        """Run the tail with `added_BF` added to each last token's router logits; gradients reach `added_BF`."""
        with self._changed(prompts, added_BF, lambda own_BE, added_BE: added_BE.to(own_BE)):
            return prompts.read()

    def with_replaced(self, prompts: TailPrompts, logits_BF: Tensor) -> Reading:
        """Run the tail with `logits_BF` as each last token's router logits; gradients reach `logits_BF`."""
        with self._changed(prompts, logits_BF, lambda own_BE, new_BE: new_BE.to(own_BE) - own_BE):
            return prompts.read()

    @contextmanager
    def _changed(
        self, prompts: TailPrompts, values_BF: Tensor, change: Callable[[Tensor, Tensor], Tensor]
    ) -> Iterator[None]:
        """Inside the block `change(own, value)` is added to the router logits of the last tokens."""
        last_B = prompts.last_B

        def added(value_BE: Tensor) -> Callable[[Tensor], Tensor]:
            def add(logits_TE: Tensor) -> Tensor:
                place_B = last_B.to(logits_TE.device)
                difference_BE = change(logits_TE.index_select(0, place_B), value_BE)
                return torch.zeros_like(logits_TE).index_copy(0, place_B, difference_BE)

            return add

        parts = zip(self.tail.layers, values_BF.split(self.widths, 1), strict=True)
        with add_to_logits(self.tail.moe, {layer.layer: added(value_BE) for layer, value_BE in parts}):
            yield
