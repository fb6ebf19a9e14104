"""Routing and router logits; prompts through the tail with other router logits at their last tokens."""

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

_LEAST, _MOST = 1e-30, 1 - 1e-6


def scores(layers: Sequence[MoELayer], logits_BF: Tensor) -> Tensor:
    """Scores p [B, F] of router logits; those of a layer sum to 1."""
    parts = logits_BF.split([layer.n_experts for layer in layers], 1)
    return torch.cat([layer.scores(part_BE) for layer, part_BE in zip(layers, parts, strict=True)], 1)


def logits(layers: Sequence[MoELayer], routing_BF: Tensor, own_BF: Tensor) -> Tensor:
    """Router logits [B, F] whose scores are `routing_BF`, of each layer scaled to a sum of 1.

    Of a softmax: log ω. Of a sigmoid, whose scores are divided by their sum: those whose sum is that of the question's
    own logits `own_BF`, so that an ω of its own gives its own logits; less where a score would be above 1.
    """
    widths = [layer.n_experts for layer in layers]
    parts = zip(layers, routing_BF.split(widths, 1), own_BF.split(widths, 1), strict=True)
    return torch.cat([_logits(layer, omega_BE, own_BE) for layer, omega_BE, own_BE in parts], 1)


def core(layers: Sequence[MoELayer], routing_BF: Tensor, n: int) -> Tensor:
    """[B, F]: whether an expert is among the `n` of its layer's greatest scores; ties by index."""
    parts = routing_BF.split([layer.n_experts for layer in layers], 1)
    return torch.cat([_first(part_BE, n) for part_BE in parts], 1)


def _logits(layer: MoELayer, routing_BE: Tensor, own_BE: Tensor) -> Tensor:
    share_BE = routing_BE / routing_BE.sum(1, keepdim=True)
    if layer.scoring == "softmax":
        return share_BE.clamp_min(_LEAST).log()
    total_B1 = own_BE.sigmoid().sum(1, keepdim=True).minimum(_MOST / share_BE.amax(1, keepdim=True))
    return (share_BE * total_B1).clamp(_LEAST, _MOST).logit()


def _first(routing_BE: Tensor, n: int) -> Tensor:
    place_BE = routing_BE.sort(dim=1, descending=True, stable=True).indices[:, :n]
    return torch.zeros_like(routing_BE, dtype=torch.bool).scatter(1, place_BE, True)


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
class Held:
    """Prompts ready to be run through the tail, more than once where `last` keeps all but their last tokens.

    Attributes:
        tail: the layers that are run.
        prompts: token ids.
        entered: what entered the tail, [T, H] of each.
        last: their last tokens alone; None: whole prompts are run.
    """

    tail: Tail
    prompts: Sequence[Sequence[int]]
    entered: Sequence[Tensor]
    last: LastToken | None

    @property
    def last_B(self) -> Tensor:  # noqa: N802  a shape suffix
        """Places of the last tokens in the flattened batch that a router sees."""
        if self.last is not None:
            return torch.arange(len(self.prompts))
        return pad(self.prompts, self.tail.padding, torch.device("cpu")).last_B

    def read(self) -> Reading:
        """A forward; with gradient if on."""
        return self.tail.resume(self.prompts, self.entered) if self.last is None else self.last.read()

    def of_rows(self, rows: Tensor) -> "Held":
        """The same of some of the prompts."""
        chosen = rows.tolist()
        prompts, last = [self.prompts[i] for i in chosen], None if self.last is None else self.last.of_rows(rows)
        return Held(self.tail, prompts, [self.entered[i] for i in chosen] if self.entered else [], last)


@dataclass(frozen=True, eq=False)
class Steering:
    """Changes the routing of the tail's layers; use it inside `tail.opened()`.

    Attributes:
        tail: the layers.
        cached: whether the family lets its last tokens be run alone: the same figures, far sooner.
    """

    tail: Tail
    cached: bool = False

    @classmethod
    @torch.no_grad()
    def checked(cls, tail: Tail, prompts: Sequence[Sequence[int]]) -> "Steering":
        """See that routers' own logits, put in their place again, change nothing; and whether last tokens run alone.

        Raises:
            ModelError: a family whose scores do not follow from the product of hidden states and router rows alone.
        """
        slow, fast, dtype = cls(tail), cls(tail, cached=True), tail.moe.model.dtype
        heard = slow.hear(prompts)
        if not alike(heard.reading, slow.replaced(slow.hold(prompts, heard.entered), heard.logits_BF), dtype):
            expected = "routers whose own logits, put in their place again, change nothing"
            raise ModelError(tail.moe.model_id, expected=expected, received="other answers")
        try:
            held = fast.hold(prompts, heard.entered)
            again = [fast.replaced(held, heard.logits_BF) for _ in range(2)]  # a cache must survive its use
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):  # caches that a family has of its own
            return slow
        return fast if all(alike(heard.reading, reading, dtype) for reading in again) else slow

    @property
    def widths(self) -> list[int]:
        """E of each layer: how F is made up."""
        return [layer.n_experts for layer in self.tail.layers]

    def hear(self, prompts: Sequence[Sequence[int]]) -> Heard:
        """The whole model as it is, without gradient."""
        last_B, said = pad(prompts, self.tail.padding, torch.device("cpu")).last_B, {}

        def listener(layer: MoELayer) -> Callable[..., None]:
            def listen(_: nn.Module, __: object, output: Any) -> None:
                said[layer.layer] = output[0].index_select(0, last_B.to(output[0].device)).float().cpu()

            return listen

        with ExitStack() as stack:
            for layer in self.tail.layers:
                stack.callback(layer.router.register_forward_hook(listener(layer)).remove)
            reading, entered = self.tail.run_model(prompts)
        return Heard(reading, entered, torch.cat([said[layer.layer] for layer in self.tail.layers], 1))

    def hold(self, prompts: Sequence[Sequence[int]], entered: Sequence[Tensor], often: bool = True) -> Held:
        """Prompts to be run with changed routing; once only unless `often`."""
        alone = self.cached and often and all(len(prompt) > 1 for prompt in prompts)
        return Held(self.tail, prompts, entered, LastToken.of(self.tail, prompts, entered) if alone else None)

    def added(self, held: Held, added_BF: Tensor) -> Reading:
        """The tail with `added_BF` added to each last token's router logits."""
        with self._changed(held, added_BF, lambda own_BE, added_BE: added_BE.to(own_BE)):
            return held.read()

    def replaced(self, held: Held, logits_BF: Tensor) -> Reading:
        """The tail with `logits_BF` in place of each last token's router logits."""
        with self._changed(held, logits_BF, lambda own_BE, new_BE: new_BE.to(own_BE) - own_BE):
            return held.read()

    @contextmanager
    def _changed(self, held: Held, values_BF: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
        last_B = held.last_B

        def adding(value_BE: Tensor) -> Callable[[Tensor], Tensor]:
            def add(logits_TE: Tensor) -> Tensor:
                place_B = last_B.to(logits_TE.device)
                difference_BE = change(logits_TE.index_select(0, place_B), value_BE)
                return torch.zeros_like(logits_TE).index_copy(0, place_B, difference_BE)

            return add

        parts = zip(self.tail.layers, values_BF.split(self.widths, 1), strict=True)
        with add_to_logits(self.tail.moe, {layer.layer: adding(value_BE) for layer, value_BE in parts}):
            yield
