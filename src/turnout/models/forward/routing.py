"""What each MoE layer's router returned in one forward, reduced to sums by sample.

Everything is read from what the router itself returned; nothing is recomputed beside it. Padding is never counted.

Shapes: B samples of a batch, T real tokens of the batch (samples one after another), E experts, K chosen experts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from turnout.errors import ModelError
from turnout.models.forward.batches import PaddedBatch
from turnout.models.wrap.anatomy import MoE, MoELayer
from turnout.models.wrap.contract import EXPECTED, complaint


@dataclass(frozen=True)
class LayerTrace:
    """What one layer's router said of one batch; CPU tensors.

    Attributes:
        layer: the decoder layer's number.
        chosen_TK: the chosen experts of every real token, uint8 (uint16 above 256 experts).
        scores_BE: the scores p of each sample's last token, float32.
        weights_BK: the applied weights of each sample's last token, float32, aligned with its row of `chosen_TK`.
        sum_scores_BE: p summed over the sample's tokens, float32 (added up in float64).
        sum_weights_BE: applied weights, 0 where not chosen, summed over the sample's tokens, float32.
        counts_BE: how many of the sample's tokens chose each expert, int64.
        inputs_BH: what the router was given at each sample's last token, float16, within its range; None unless asked.
    """

    layer: int
    chosen_TK: Tensor
    scores_BE: Tensor
    weights_BK: Tensor
    sum_scores_BE: Tensor
    sum_weights_BE: Tensor
    counts_BE: Tensor
    inputs_BH: Tensor | None = None


class RoutingError(ModelError):
    """A router said something that cannot be counted. `layer` is the decoder layer, `sample` the index in the batch."""

    def __init__(self, layer: MoELayer, *, expected: str, received: object, sample: int | None = None) -> None:
        self.layer, self.sample = layer.layer, sample
        where = f"layer {layer.layer}" + ("" if sample is None else f", sample {sample} of the batch")
        super().__init__(where, expected=expected, received=received)


class StopForward(Exception):  # noqa: N818  not an error: the way out of a forward
    """Raised from the last router's hook: the rest of the forward would be wasted."""


class RoutingReader:
    """Hooks on the routers of one forward; each reduces at once what its router returned.

    They hear their own thread only: other batches may be on their way through the same model.
    """

    def __init__(self, moe: MoE, batch: PaddedBatch, leave: bool, keep_inputs: bool) -> None:
        self._moe, self._batch, self._leave, self._keep_inputs = moe, batch, leave, keep_inputs
        self._traces: dict[int, LayerTrace] = {}
        self._thread = get_ident()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The hooks are on inside."""
        handles = [layer.router.register_forward_hook(self._hook(layer)) for layer in self._moe.layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def traces(self) -> tuple[LayerTrace, ...]:
        """One trace a layer, in the order of the layers."""
        for layer in self._moe.layers:
            if layer.layer not in self._traces:
                raise RoutingError(layer, expected="its router to speak once in a forward", received="silence")
        return tuple(_ordinary(self._traces[layer.layer]) for layer in self._moe.layers)

    def _hook(self, layer: MoELayer) -> Any:
        # It returns nothing: that would replace the router's output.
        def listen(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if get_ident() != self._thread:
                return
            if layer.layer in self._traces:
                raise RoutingError(layer, expected="its router to speak once in a forward", received="a second time")
            wrong = complaint(output, self._batch.ids.numel(), layer.n_experts)
            if wrong:
                raise RoutingError(layer, expected=EXPECTED, received=wrong)
            self._traces[layer.layer] = _reduce(layer, self._batch, *output)
            if self._keep_inputs:
                self._traces[layer.layer] = replace(
                    self._traces[layer.layer], inputs_BH=_last_inputs(self._batch, args[0])
                )
            if self._leave and len(self._traces) == len(self._moe.layers):
                raise StopForward

        return listen


def _reduce(layer: MoELayer, batch: PaddedBatch, logits: Tensor, weights: Tensor, indices: Tensor) -> LayerTrace:
    """The real tokens' part of what a router returned, summed by sample."""
    token_T = batch.token_T.to(logits.device)
    logits_TE = logits.index_select(0, token_T)
    weights_TK, chosen_TK = weights.index_select(0, token_T).float(), indices.index_select(0, token_T).long()
    _check_finite(layer, batch, logits_TE, weights_TK)
    scores_TE = layer.scores(logits_TE)
    applied_TE = torch.zeros_like(scores_TE).scatter_add_(1, chosen_TK, weights_TK)
    counts_BE = _counts(layer, batch, chosen_TK)
    last_B = (batch.end_B - 1).to(logits.device)
    return LayerTrace(
        layer=layer.layer,
        chosen_TK=chosen_TK.to(torch.uint8 if layer.n_experts <= 256 else torch.uint16).cpu(),
        scores_BE=scores_TE[last_B].cpu(),
        weights_BK=weights_TK[last_B].cpu(),
        sum_scores_BE=_sums(scores_TE, batch.lengths_B),
        sum_weights_BE=_sums(applied_TE, batch.lengths_B),
        counts_BE=counts_BE,
    )


def _ordinary(trace: LayerTrace) -> LayerTrace:
    """Copies that autograd may save and others may change, which tensors made in inference mode may not."""
    return LayerTrace(
        layer=trace.layer,
        chosen_TK=trace.chosen_TK.clone(),
        scores_BE=trace.scores_BE.clone(),
        weights_BK=trace.weights_BK.clone(),
        sum_scores_BE=trace.sum_scores_BE.clone(),
        sum_weights_BE=trace.sum_weights_BE.clone(),
        counts_BE=trace.counts_BE.clone(),
        inputs_BH=None if trace.inputs_BH is None else trace.inputs_BH.clone(),
    )


def _last_inputs(batch: PaddedBatch, hidden: Tensor) -> Tensor:
    """[B, H]: a router's input at each sample's last token, in half precision, held within its range."""
    last_B = batch.last_B.to(hidden.device)
    last_BH = hidden.reshape(-1, hidden.shape[-1]).index_select(0, last_B).float()
    largest = torch.finfo(torch.float16).max
    return last_BH.clamp(-largest, largest).half().cpu()


def _sums(x_TE: Tensor, lengths_B: list[int]) -> Tensor:
    """Sums [B, E] over each sample's tokens: added up in float64, so that the order hardly matters."""
    x_TE = x_TE.cpu() if x_TE.device.type == "mps" else x_TE  # Apple's GPUs have no float64
    return torch.stack([x.sum(0, dtype=torch.float64) for x in x_TE.split(lengths_B)]).float().cpu()


def _counts(layer: MoELayer, batch: PaddedBatch, chosen_TK: Tensor) -> Tensor:
    """How often each sample chose each expert [B, E]; together tokens × K, or something was lost."""
    n_samples, (n_tokens, top_k) = len(batch.lengths_B), chosen_TK.shape
    cell_TK = chosen_TK + batch.sample_T.to(chosen_TK.device).unsqueeze(1) * layer.n_experts
    counts_BE = torch.bincount(cell_TK.reshape(-1), minlength=n_samples * layer.n_experts).view(n_samples, -1).cpu()
    total = int(counts_BE.sum())
    if top_k != layer.top_k or counts_BE.shape[1] != layer.n_experts or total != sum(batch.lengths_B) * layer.top_k:
        expected = f"{n_tokens} tokens × {layer.top_k} choices among {layer.n_experts} experts"
        raise RoutingError(layer, expected=expected, received=f"{total} choices, {top_k} a token")
    return counts_BE


def _check_finite(layer: MoELayer, batch: PaddedBatch, logits_TE: Tensor, weights_TK: Tensor) -> None:
    finite_T = logits_TE.isfinite().all(1) & weights_TK.isfinite().all(1)
    if not finite_T.all():
        sample = int(batch.sample_T[int((~finite_T).nonzero()[0])])
        raise RoutingError(layer, expected="finite router scores", received="NaN or infinity", sample=sample)
