"""Trainer callback that logs the routing of a MoE while it trains, for every reporter of the Trainer.

Shapes: T tokens of a forward, batch · length flattened.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from turnout.models.wrap.anatomy import MoELayer, read
from turnout.training.expert_load import LayerLoad, LoadMeter
from turnout.training.log_figures import add_to_log, go_first, named_figures

FIGURES = ("load_max_over_mean", "load_cv", "load_entropy", "token_entropy", "dead_experts", "balance")


class RoutingCallback(TrainerCallback):  # type: ignore[misc]
    """Add load, entropy, dead experts, balance and committee drift to the Trainer's own logs.

    >>> trainer = Trainer(..., callbacks=[turnout.RoutingCallback()])  # or TRL's SFTTrainer, DPOTrainer, …

    Each training log gains `routing/FIGURE`, the mean over MoE layers, and `routing/layer_NN/FIGURE` with NN the
    decoder layer's number. FIGURE is one of `FIGURES` (see `turnout.training.expert_load.LayerLoad`),
    `committee_jaccard_previous` or `committee_jaccard_first`: the Jaccard similarity of the layer's K busiest experts
    to those of the previous log, or of the first log (1: the same).

    The figures cover the real tokens of all micro-batches since the last log. Padding is left out by the attention
    mask, a micro-batch counts once even if gradient checkpointing recomputes it, and evaluation and generation do not
    count. Several processes add their tokens together. The training itself is not changed.

    Args:
        per_layer: also log every layer's figures.

    Attributes:
        loads: {decoder layer: figures} of the last log.

    Raises:
        ModelError: when training begins, if the model is no MoE that keeps the router contract.
    """

    def __init__(self, per_layer: bool = True) -> None:
        self.per_layer = per_layer
        self.loads: dict[int, LayerLoad] = {}
        self._layers: tuple[MoELayer, ...] = ()
        self._meters: dict[int, LoadMeter] = {}
        self._handles: list[Any] = []
        self._counting, self._warned = False, False
        self._real_T: Tensor | None = None
        self._first: dict[int, frozenset[int]] = {}

    def on_train_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        """Register hooks on the model and its routers, and precede the callbacks that report logs."""
        self._remove_hooks()
        self._layers = read(_without_adapters(model)).layers
        self._meters = {layer.layer: LoadMeter(layer.n_experts, layer.top_k) for layer in self._layers}
        self._first, self.loads = {}, {}
        self._handles = [
            model.register_forward_pre_hook(self._enter, with_kwargs=True),
            model.register_forward_hook(self._leave, always_call=True),
            *(layer.router.register_forward_hook(self._router_hook(layer)) for layer in self._layers),
        ]
        go_first(self)

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Add the figures to a training log."""
        if logs is None or "loss" not in logs or not self._layers:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self._all_reduce()
        taken = {number: meter.take() for number, meter in self._meters.items()}
        loads = {number: load for number, load in taken.items() if load is not None}
        if loads:
            add_to_log(self._figures(loads), logs, state)
            self.loads = loads

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Remove every hook."""
        self._remove_hooks()

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._counting, self._real_T = [], False, None

    def _enter(self, model: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the model's forward: count it if it is a training one, and keep the mask of its real tokens.

        Gradient checkpointing recomputes layers in the backward pass, outside of the model's forward.
        """
        self._counting = model.training and torch.is_grad_enabled()
        mask = kwargs.get("attention_mask")
        self._real_T = mask.bool().reshape(-1) if isinstance(mask, Tensor) and mask.dim() == 2 else None
        if self._counting and mask is not None and self._real_T is None and not self._warned:
            self._warned = True
            received = f"{mask.dim()}-dimensional" if isinstance(mask, Tensor) else type(mask).__name__
            warnings.warn(
                f"RoutingCallback counts padding: the attention mask is {received}, not 2-dimensional", stacklevel=2
            )

    def _leave(self, *_: object) -> None:
        self._counting, self._real_T = False, None

    def _router_hook(self, layer: MoELayer) -> Any:
        meter = self._meters[layer.layer]

        @torch.no_grad()
        def add(_: nn.Module, __: object, output: tuple[Tensor, Tensor, Tensor]) -> None:  # a return would replace it
            if self._counting:
                logits_TE, _weights, chosen_TK = output
                real_T = self._real_T
                meter.add(layer.scores(logits_TE), chosen_TK, None if real_T is None else real_T.to(logits_TE.device))

        return add

    def _figures(self, loads: dict[int, LayerLoad]) -> dict[str, float]:
        """Log keys and values; `self.loads` are still those of the previous log."""
        by_layer = {}
        for number, load in loads.items():
            before = self.loads[number].committee if number in self.loads else load.committee
            first = self._first.setdefault(number, load.committee)
            by_layer[number] = {name: float(getattr(load, name)) for name in FIGURES} | {
                "committee_jaccard_previous": _jaccard(load.committee, before),
                "committee_jaccard_first": _jaccard(load.committee, first),
            }
        return named_figures("routing", by_layer, self.per_layer)

    def _all_reduce(self) -> None:
        """Sum every layer's counts over processes, which all log at the same steps."""
        for layer in self._layers:
            for tensor in self._meters[layer.layer].tensors(next(layer.router.parameters()).device):
                torch.distributed.all_reduce(tensor)


def _without_adapters(model: Any) -> Any:
    """The transformers model inside a PEFT model; any other model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """Jaccard similarity of two sets that are not empty."""
    return len(a & b) / len(a | b)
