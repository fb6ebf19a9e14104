"""The last layers of a model alone: what enters them is computed once, whatever their routers become.

A forward through the tail is the model's own: the layers below hand on what entered the tail before, and everything
else (masks, position embeddings, norms, head) is the model's code. Only what is read is computed: the head's rows of
the answer letters, and in the last layer the experts of each prompt's last token.

Shapes: B prompts of a batch, T tokens of one, H hidden size, E experts, U letters (or the vocabulary), R tokens whose
routing is read, F scores: the experts of all layers whose routers are read, one layer after another.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any, Literal

import torch
from torch import Tensor, nn

from turnout.errors import ModelError
from turnout.models.fast.experts import fast_experts, real_tokens
from turnout.models.fast.products import fast_linears
from turnout.models.forward.batches import PaddedBatch, pad
from turnout.models.forward.prefix import decoder_layers
from turnout.models.forward.reading import Reading, Tokens, alike, letters_only, read_tokens
from turnout.models.forward.router_forward import replaced_forward
from turnout.models.wrap.anatomy import MoE, MoELayer
from turnout.models.wrap.contract import EXPECTED, complaint, in_evaluation_mode


class _Entered(Exception):  # noqa: N818  not an error: the way out of a forward
    """Raised where the tail begins: nothing after it is wanted."""


class Tail:
    """The decoder layers of `moe` from the first of `layers` on.

    Use it inside `opened()`. Where the model keeps its layers in no list, or hands on more than hidden states, the tail
    is the whole model: slower, the same figures.

    Args:
        moe: the model.
        layers: the layers whose routing is read.
        letters: token ids whose logits are read; None for the whole vocabulary.
        tokens: at which tokens routing is read.
        padding: the side on which shorter prompts are padded.
    """

    def __init__(
        self,
        moe: MoE,
        layers: Sequence[MoELayer],
        letters: Sequence[int] | None,
        tokens: Tokens = "last",
        padding: Literal["right", "left"] = "right",
    ) -> None:
        head = moe.model.get_output_embeddings()
        if head is None:
            expected = "a language-model head to score answers"
            raise ModelError(moe.model_id, expected=expected, received=type(moe.model).__name__)
        self.moe, self.layers, self.tokens, self.padding = moe, tuple(layers), tokens, padding
        self._letters = None if letters is None else torch.tensor(letters)
        self._head: nn.Module = head
        self._device = moe.model.get_input_embeddings().weight.device
        number = layers[0].layer
        self._below = decoder_layers(moe, number)[:number]
        self._last = _last_experts(moe)
        self._after: tuple[Any, ...] = ()

    @property
    def cut(self) -> bool:
        """Whether anything lies below the tail: `resume` then needs what entered it."""
        return bool(self._below)

    @property
    def first(self) -> int:
        """How many decoder layers lie below the tail."""
        return len(self._below)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside it no parameter of the model asks for a gradient, and no dropout runs; the model is left as found."""
        asking = [p for p in self.moe.model.parameters() if p.requires_grad]
        with ExitStack() as stack:
            for prepared in (in_evaluation_mode, fast_experts, fast_linears, _without_router_outputs):
                stack.enter_context(prepared(self.moe.model))
            for parameter in asking:
                stack.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
            yield

    def whole(self, prompts: Sequence[Sequence[int]]) -> tuple[Reading, list[Tensor]]:
        """A forward of the whole model without gradient, and what entered the tail: [T, H] of each prompt.

        The second part is empty where the tail is the whole model.
        """
        batch = pad(prompts, self.padding, self._device)
        entered: list[Tensor] = []
        with torch.no_grad(), self._recording(entered):
            reading = self._forward(batch)
        return reading, _real_tokens(batch, entered)

    def enter(self, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
        """What enters the tail alone, as `whole` gives it; nothing above is computed."""
        if not self.cut:
            return []
        batch = pad(prompts, self.padding, self._device)
        entered: list[Tensor] = []
        with torch.no_grad(), self._recording(entered, leave=True), _of_real(batch), suppress(_Entered):
            self.moe.model(**batch.asked(), use_cache=False)
        return _real_tokens(batch, entered)

    def resume(self, prompts: Sequence[Sequence[int]], entered: Sequence[Tensor]) -> Reading:
        """A forward through the tail alone, of prompts whose `entered` states `whole` gave; with gradient if on."""
        return self.resume_batch(pad(prompts, self.padding, self._device), entered)

    def resume_batch(self, batch: PaddedBatch, entered: Sequence[Tensor]) -> Reading:
        """`resume` of prompts that are padded already."""
        if not self.cut:
            return self._forward(batch)
        hidden_TH = torch.cat(list(entered))
        flat = hidden_TH.new_zeros(batch.ids.numel(), hidden_TH.shape[1])
        flat = flat.index_copy(0, batch.token_T, hidden_TH).view(*batch.ids.shape, -1)
        flat = flat.to(next(self._below[-1].parameters()).device)
        returned = (flat, *self._after) if self._after else flat
        with ExitStack() as stack:
            for module in self._below:
                stack.enter_context(replaced_forward(module, lambda *_, **__: returned))
            return self._forward(batch)

    @torch.no_grad()
    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """See whether the tail alone says what the whole model says; if it does not, the tail is the whole model."""
        if not self.cut:
            return
        whole, entered = self.whole(prompts)
        if entered:
            try:
                again = self.resume(prompts, entered)
            except (RuntimeError, TypeError, ValueError, AttributeError):  # a family's own code met what it cannot take
                again = None
            if again is not None and alike(whole, again, self.moe.model.dtype):
                return
        self._below = ()

    @contextmanager
    def _recording(self, entered: list[Tensor], leave: bool = False) -> Iterator[None]:
        """The tensor that the last layer below returns is kept; and how it was wrapped, to be returned so again.

        With `leave` the forward ends there.
        """
        if not self._below:
            yield
            return

        def keep(_: nn.Module, __: object, output: Any) -> None:
            first, self._after = (output[0], output[1:]) if isinstance(output, tuple) else (output, ())
            if isinstance(first, Tensor) and all(x is None for x in self._after):
                entered.append(first)
            if leave:
                raise _Entered

        handle = self._below[-1].register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def _forward(self, batch: PaddedBatch) -> Reading:
        said: dict[int, Tensor] = {}
        with ExitStack() as stack:
            for layer in self.layers:
                stack.callback(layer.router.register_forward_hook(self._hear(layer, batch, said)).remove)
            stack.enter_context(_of_real(batch))
            stack.enter_context(self._last_experts_only(batch))
            stack.enter_context(letters_only(self._head, self._letters, batch))
            logits = self.moe.model(**batch.asked(), use_cache=False).logits[:, -1].float()
        missing = [layer.layer for layer in self.layers if layer.layer not in said]
        if missing:
            raise ModelError(
                f"layer {missing[0]}", expected="its router to speak once in a forward", received="silence"
            )
        routing = [said[layer.layer].to(logits.device) for layer in self.layers]
        if self._letters is not None and logits.shape[1] != len(self._letters):
            logits = logits[:, self._letters.to(logits.device)]
        return Reading(logits, torch.cat(routing, 1))

    def _hear(self, layer: MoELayer, batch: PaddedBatch, said: dict[int, Tensor]) -> Any:
        """A forward hook that keeps p at the tokens that are read; it returns nothing: that would replace them."""
        place_BR, share_BR = read_tokens(batch, self.tokens)

        def listen(_: nn.Module, __: object, output: Any) -> None:
            wrong = complaint(output, batch.ids.numel(), layer.n_experts)
            if wrong or layer.layer in said:
                raise ModelError(
                    f"layer {layer.layer}", expected=EXPECTED, received=wrong or "a second one in a forward"
                )
            logits_TE = output[0].index_select(0, place_BR.reshape(-1).to(output[0].device))
            p_BRE = layer.scores(logits_TE).view(*place_BR.shape, -1)
            said[layer.layer] = (p_BRE * share_BR.to(p_BRE.device).unsqueeze(2)).sum(1)

        return listen

    @contextmanager
    def _last_experts_only(self, batch: PaddedBatch) -> Iterator[None]:
        """In the last decoder layer no expert works for other tokens than the last: nobody reads what they say."""
        if self._last is None:
            yield
            return
        forward = self._last.forward
        last = torch.zeros(batch.ids.numel(), dtype=torch.bool)
        last[batch.last_B] = True

        def few(*args: Any, **kwargs: Any) -> Any:
            with real_tokens(last):
                return forward(*args, **kwargs)

        with replaced_forward(self._last, few):
            yield


def _last_experts(moe: MoE) -> nn.Module | None:
    """The experts of the model's last decoder layer; None if that is dense or cannot be told."""
    last = moe.layers[-1]
    return last.experts if len(decoder_layers(moe, last.layer)) == last.layer + 1 else None


def _of_real(batch: PaddedBatch) -> AbstractContextManager[None]:
    """Inside it padding reaches no expert."""
    return real_tokens(batch.mask.reshape(-1)) if batch.padded else nullcontext()


def _real_tokens(batch: PaddedBatch, entered: Sequence[Tensor]) -> list[Tensor]:
    """The real tokens' rows [T, H] of each prompt, of the one tensor that was recorded; none if none was."""
    if not entered:
        return []
    hidden_TH = entered[0].flatten(0, 1).index_select(0, batch.token_T.to(entered[0].device))
    return list(hidden_TH.split(batch.lengths_B))


@contextmanager
def _without_router_outputs(model: nn.Module) -> Iterator[None]:
    """Inside it the model collects no routers' logits and computes no balancing loss of its own."""
    config: Any = model.config
    found = {id(c): c for c in (config, config.get_text_config()) if getattr(c, "output_router_logits", False)}
    for asking in found.values():
        asking.output_router_logits = False
    try:
        yield
    finally:
        for asking in found.values():
            asking.output_router_logits = True
