"""Routing of one batch: hooks on the routers that reduce what each returned to sums by sample.

Every figure is computed from the router's own output, never from logits recomputed beside it. Padding is not counted.

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
from turnout.models.wrap.contract import EXPECTED, ONE_CALL, contract_violation


@dataclass(frozen=True)
class LayerTrace:
    """What one layer's router returned for one batch, reduced; CPU tensors.

    Attributes:
        layer: the decoder layer's number.
        chosen_TK: the chosen experts of every real token, uint8 (uint16 above 256 experts).
        scores_BE: the scores p of each sample's last token, float32.
        weights_BK: the applied weights of each sample's last token, float32, aligned with its row of `chosen_TK`.
        sum_scores_BE: p summed over the sample's tokens, float32 (summed in float64).
        sum_weights_BE: applied weights, 0 where not chosen, summed over the sample's tokens, float32.
        counts_BE: the number of the sample's tokens that chose each expert, int64.
        inputs_BH: the router's input at each sample's last token, clamped to float16; None unless requested.
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
    """Router output that cannot be counted; `layer` is the decoder layer, `sample` an index in the batch or None."""

    def __init__(self, layer: MoELayer, *, expected: str, received: object, sample: int | None = None) -> None:
        self.layer, self.sample = layer.layer, sample
        where = f"layer {layer.layer}" + ("" if sample is None else f", sample {sample} of the batch")
        super().__init__(where, expected=expected, received=received)


class StopForward(Exception):  # noqa: N818  not an error: ends the forward
    """Ends a forward after its last router: nothing after it is needed."""


class RoutingReader:
    """Hooks on the routers of one forward; each reduces its router's output at once.

    They ignore calls from other threads, which may run other batches through the same model.

    Args:
        moe: the model.
        batch: the batch of this forward.
        stop: raise `StopForward` after the last router.
        keep_inputs: also keep each router's input at the last tokens.
    """

    def __init__(self, moe: MoE, batch: PaddedBatch, stop: bool, keep_inputs: bool) -> None:
        self._moe, self._batch, self._stop, self._keep_inputs = moe, batch, stop, keep_inputs
        self._traces: dict[int, LayerTrace] = {}
        self._thread = get_ident()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Attach the hooks inside the block."""
        handles = [layer.router.register_forward_hook(self._hook(layer)) for layer in self._moe.layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def traces(self) -> tuple[LayerTrace, ...]:
        """A trace of each layer, in the order of the layers; RoutingError if a router was not called."""
        for layer in self._moe.layers:
            if layer.layer not in self._traces:
                raise RoutingError(layer, expected=ONE_CALL, received="none")
        return tuple(_without_inference_mode(self._traces[layer.layer]) for layer in self._moe.layers)

    def _hook(self, layer: MoELayer) -> Any:
        # The hook returns None: any other value would replace the router's output.
        def record(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if get_ident() != self._thread:
                return
            if layer.layer in self._traces:
                raise RoutingError(layer, expected=ONE_CALL, received="a second call")
            violation = contract_violation(output, self._batch.ids.numel(), layer.n_experts)
            if violation:
                raise RoutingError(layer, expected=EXPECTED, received=violation)
            self._traces[layer.layer] = _reduce(layer, self._batch, *output)
            if self._keep_inputs:
                self._traces[layer.layer] = replace(
                    self._traces[layer.layer], inputs_BH=_last_inputs(self._batch, args[0])
                )
            if self._stop and len(self._traces) == len(self._moe.layers):
                raise StopForward

        return record


def _reduce(layer: MoELayer, batch: PaddedBatch, logits: Tensor, weights: Tensor, indices: Tensor) -> LayerTrace:
    """Reduce a router's output to the real tokens' choices, last-token figures and sums by sample."""
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


def _without_inference_mode(trace: LayerTrace) -> LayerTrace:
    """Copies outside inference mode: autograd may save them, and they may be changed in place."""
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
    """A router's input at each sample's last token [B, H], in half precision, clamped to its range."""
    last_B = batch.last_B.to(hidden.device)
    last_BH = hidden.reshape(-1, hidden.shape[-1]).index_select(0, last_B).float()
    largest = torch.finfo(torch.float16).max
    return last_BH.clamp(-largest, largest).half().cpu()


def _sums(x_TE: Tensor, lengths_B: list[int]) -> Tensor:
    """Sums [B, E] over each sample's tokens, in float64, so that the order of summation hardly matters."""
    x_TE = x_TE.cpu() if x_TE.device.type == "mps" else x_TE  # Apple's GPUs have no float64
    return torch.stack([x.sum(0, dtype=torch.float64) for x in x_TE.split(lengths_B)]).float().cpu()


def _counts(layer: MoELayer, batch: PaddedBatch, chosen_TK: Tensor) -> Tensor:
    """How often each sample chose each expert [B, E]; RoutingError if the total is not tokens × K."""
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
