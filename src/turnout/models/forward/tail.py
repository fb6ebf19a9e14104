"""Run the last layers from cached hidden states, which stay valid while only the routers of those layers change.

A forward through the tail is the model's own: the layers below return the cached states, and everything else (masks,
position embeddings, norms, head) is the model's code. Two parts are left out, since nothing uses them: the head's rows
of other tokens than the answer letters, and in the last layer the experts of all tokens but each prompt's last.

Shapes: B prompts of a batch, T tokens of one, H hidden size, E experts, U letters (or the vocabulary), F scores: the
experts of all layers whose routing is used, one layer after another.
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
from turnout.models.forward.reading import Reading, Tokens, alike, letters_only, token_places
from turnout.models.forward.router_forward import replaced_forward
from turnout.models.wrap.anatomy import MoE, MoELayer
from turnout.models.wrap.contract import EXPECTED, ONE_CALL, contract_violation, in_evaluation_mode


class _StopForward(Exception):  # noqa: N818  not an error: ends the forward
    """Ends a forward where the tail begins."""


class Tail:
    """The decoder layers of `moe` from the first of `layers` on; use it inside `opened()`.

    Where the model has no list of decoder layers, or passes more than hidden states between them, the tail is the whole
    model: slower, the same figures.

    Args:
        moe: the model.
        layers: the layers whose routing is used.
        letters: token ids whose logits are computed; None for the whole vocabulary.
        tokens: the tokens whose routing is used.
        padding: the side on which shorter prompts are padded.

    Raises:
        ModelError: the model has no language-model head.
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
        """Whether there are layers below the tail: `resume` then needs their output."""
        return bool(self._below)

    @property
    def first(self) -> int:
        """Number of decoder layers below the tail."""
        return len(self._below)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside the block no parameter requires a gradient and dropout is off; the model is restored after it."""
        trainable = [p for p in self.moe.model.parameters() if p.requires_grad]
        with ExitStack() as stack:
            for prepared in (in_evaluation_mode, fast_experts, fast_linears, _without_router_outputs):
                stack.enter_context(prepared(self.moe.model))
            for parameter in trainable:
                stack.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
            yield

    def run_model(self, prompts: Sequence[Sequence[int]]) -> tuple[Reading, list[Tensor]]:
        """Run the whole model without gradient.

        Returns:
            The reading, and the tail's input, [T, H] of each prompt; empty where the tail is the whole model.
        """
        batch = pad(prompts, self.padding, self._device)
        recorded: list[Tensor] = []
        with torch.no_grad(), self._recording(recorded):
            reading = self._forward(batch)
        return reading, _by_prompt(batch, recorded)

    def run_below(self, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Run only the layers below the tail; the tail's input as `run_model` returns it."""
        if not self.cut:
            return []
        batch = pad(prompts, self.padding, self._device)
        recorded: list[Tensor] = []
        with torch.no_grad(), self._recording(recorded, stop=True), _real_only(batch), suppress(_StopForward):
            self.moe.model(**batch.model_inputs(), use_cache=False)
        return _by_prompt(batch, recorded)

    def resume(self, prompts: Sequence[Sequence[int]], states: Sequence[Tensor]) -> Reading:
        """Run the tail alone, with gradient where enabled; `states` are its inputs, as `run_model` returns them."""
        return self.resume_batch(pad(prompts, self.padding, self._device), states)

    def resume_batch(self, batch: PaddedBatch, states: Sequence[Tensor]) -> Reading:
        """`resume` of a padded batch."""
        if not self.cut:
            return self._forward(batch)
        hidden_TH = torch.cat(list(states))
        flat = hidden_TH.new_zeros(batch.ids.numel(), hidden_TH.shape[1])
        flat = flat.index_copy(0, batch.token_T, hidden_TH).view(*batch.ids.shape, -1)
        flat = flat.to(next(self._below[-1].parameters()).device)
        output = (flat, *self._after) if self._after else flat
        with ExitStack() as stack:
            for module in self._below:
                stack.enter_context(replaced_forward(module, lambda *_, **__: output))
            return self._forward(batch)

    @torch.no_grad()
    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Compare the tail with the whole model on `prompts`; if they differ, the tail becomes the whole model."""
        if not self.cut:
            return
        whole, states = self.run_model(prompts)
        if states:
            try:
                resumed = self.resume(prompts, states)
            except (RuntimeError, TypeError, ValueError, AttributeError):  # a family's own code may refuse the states
                resumed = None
            if resumed is not None and alike(whole, resumed, self.moe.model.dtype):
                return
        self._below = ()

    @contextmanager
    def _recording(self, recorded: list[Tensor], stop: bool = False) -> Iterator[None]:
        """Append the output of the last layer below the tail to `recorded`; with `stop` the forward ends there.

        The rest of an output that is a tuple is kept in `_after`, for `resume` to return the same form.
        """
        if not self._below:
            yield
            return

        def keep(_: nn.Module, __: object, output: Any) -> None:
            first, self._after = (output[0], output[1:]) if isinstance(output, tuple) else (output, ())
            if isinstance(first, Tensor) and all(x is None for x in self._after):
                recorded.append(first)
            if stop:
                raise _StopForward

        handle = self._below[-1].register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def _forward(self, batch: PaddedBatch) -> Reading:
        scores: dict[int, Tensor] = {}
        with ExitStack() as stack:
            for layer in self.layers:
                stack.callback(layer.router.register_forward_hook(self._router_hook(layer, batch, scores)).remove)
            stack.enter_context(_real_only(batch))
            stack.enter_context(self._last_experts_only(batch))
            stack.enter_context(letters_only(self._head, self._letters, batch))
            logits = self.moe.model(**batch.model_inputs(), use_cache=False).logits[:, -1].float()
        missing = [layer.layer for layer in self.layers if layer.layer not in scores]
        if missing:
            raise ModelError(f"layer {missing[0]}", expected=ONE_CALL, received="none")
        routing = [scores[layer.layer].to(logits.device) for layer in self.layers]
        if self._letters is not None and logits.shape[1] != len(self._letters):
            logits = logits[:, self._letters.to(logits.device)]
        return Reading(logits, torch.cat(routing, 1))

    def _router_hook(self, layer: MoELayer, batch: PaddedBatch, scores: dict[int, Tensor]) -> Any:
        """A forward hook that puts p at the chosen tokens into `scores`. It returns None: the output stays."""
        place_BR, share_BR = token_places(batch, self.tokens)

        def keep(_: nn.Module, __: object, output: Any) -> None:
            violation = contract_violation(output, batch.ids.numel(), layer.n_experts)
            if violation:
                raise ModelError(f"layer {layer.layer}", expected=EXPECTED, received=violation)
            if layer.layer in scores:
                raise ModelError(f"layer {layer.layer}", expected=ONE_CALL, received="a second call")
            logits_TE = output[0].index_select(0, place_BR.reshape(-1).to(output[0].device))
            p_BRE = layer.scores(logits_TE).view(*place_BR.shape, -1)
            scores[layer.layer] = (p_BRE * share_BR.to(p_BRE.device).unsqueeze(2)).sum(1)

        return keep

    @contextmanager
    def _last_experts_only(self, batch: PaddedBatch) -> Iterator[None]:
        """Inside the block the last decoder layer's experts run for each prompt's last token only."""
        if self._last is None:
            yield
            return
        forward = self._last.forward
        last = torch.zeros(batch.ids.numel(), dtype=torch.bool)
        last[batch.last_B] = True

        def run(*args: Any, **kwargs: Any) -> Any:
            with real_tokens(last):
                return forward(*args, **kwargs)

        with replaced_forward(self._last, run):
            yield


def _last_experts(moe: MoE) -> nn.Module | None:
    """The experts of the model's last decoder layer; None if it is dense or not known to be the last."""
    last = moe.layers[-1]
    return last.experts if len(decoder_layers(moe, last.layer)) == last.layer + 1 else None


def _real_only(batch: PaddedBatch) -> AbstractContextManager[None]:
    """Inside the block no padding reaches an expert."""
    return real_tokens(batch.mask.reshape(-1)) if batch.padded else nullcontext()


def _by_prompt(batch: PaddedBatch, recorded: Sequence[Tensor]) -> list[Tensor]:
    """The recorded tensor's real tokens, [T, H] of each prompt; empty if nothing was recorded."""
    if not recorded:
        return []
    hidden_TH = recorded[0].flatten(0, 1).index_select(0, batch.token_T.to(recorded[0].device))
    return list(hidden_TH.split(batch.lengths_B))


@contextmanager
def _without_router_outputs(model: nn.Module) -> Iterator[None]:
    """Inside the block the model collects no router logits and computes no load-balancing loss."""
    config: Any = model.config
    switched = {id(c): c for c in (config, config.get_text_config()) if getattr(c, "output_router_logits", False)}
    for one in switched.values():
        one.output_router_logits = False
    try:
        yield
    finally:
        for one in switched.values():
            one.output_router_logits = True
