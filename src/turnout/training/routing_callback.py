"""A Trainer callback that logs how a MoE routes while it trains, to whatever the Trainer logs to.

Shapes: T tokens of a forward, batch · length flattened.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from turnout.models.wrap.anatomy import MoELayer, read
from turnout.training.callback_order import go_first
from turnout.training.load import LayerLoad, LoadMeter

FIGURES = ("load_max_over_mean", "load_cv", "load_entropy", "token_entropy", "dead_experts", "balance")


class RoutingCallback(TrainerCallback):  # type: ignore[misc]
    """Adds load, entropy, dead experts, balance and committee drift to the Trainer's own logs.

    >>> trainer = Trainer(..., callbacks=[RoutingCallback()])  # or TRL's SFTTrainer, DPOTrainer, …

    Each training log gains `routing/FIGURE`, the mean over MoE layers, and `routing/layer_NN/FIGURE`, NN the decoder
    layer's number. FIGURE is one of `FIGURES` (see `turnout.training.load.LayerLoad`), `committee_jaccard_previous` or
    `committee_jaccard_first`: the Jaccard overlap of the layer's K busiest experts with those of the log before, or of
    the first log (1: the same).

    The figures are of the real tokens of all micro-batches since the last log: padding is left out by the attention
    mask, a micro-batch counts once however often gradient checkpointing recomputes it, and evaluation or generation
    does not count. Several processes add up their tokens. The training itself is not changed.

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
        self._listening, self._warned = False, False
        self._real_T: Tensor | None = None
        self._first: dict[int, frozenset[int]] = {}

    def on_train_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        """Put hooks on the model and its routers, and step before the callbacks that report logs."""
        self._stop()
        self._layers = read(_without_adapters(model)).layers
        self._meters = {layer.layer: LoadMeter(layer.n_experts, layer.top_k) for layer in self._layers}
        self._first, self.loads = {}, {}
        self._handles = [
            model.register_forward_pre_hook(self._enter, with_kwargs=True),
            model.register_forward_hook(self._leave, always_call=True),
            *(layer.router.register_forward_hook(self._listen(layer)) for layer in self._layers),
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
        """Add the figures to a training log, and to the state's history of it, which was written before this call."""
        if logs is None or "loss" not in logs or not self._layers:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self._add_up()
        taken = {number: meter.take() for number, meter in self._meters.items()}
        loads = {number: load for number, load in taken.items() if load is not None}
        if not loads:
            return
        figures = self._figures(loads)
        self.loads = loads
        logs.update(figures)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(figures)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Take every hook away."""
        self._stop()

    def _stop(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._listening, self._real_T = [], False, None

    def _enter(self, model: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the model's forward: listen if it is a training one, and note where its real tokens are.

        Gradient checkpointing recomputes layers in the backward pass, outside of the model's forward.
        """
        self._listening = model.training and torch.is_grad_enabled()
        mask = kwargs.get("attention_mask")
        self._real_T = mask.bool().reshape(-1) if isinstance(mask, Tensor) and mask.dim() == 2 else None
        if self._listening and mask is not None and self._real_T is None and not self._warned:
            self._warned = True
            received = f"{mask.dim()}-dimensional" if isinstance(mask, Tensor) else type(mask).__name__
            warnings.warn(
                f"RoutingCallback counts padding: the attention mask is {received}, not 2-dimensional", stacklevel=2
            )

    def _leave(self, *_: object) -> None:
        self._listening, self._real_T = False, None

    def _listen(self, layer: MoELayer) -> Any:
        meter = self._meters[layer.layer]

        @torch.no_grad()
        def listen(_: nn.Module, __: object, output: tuple[Tensor, Tensor, Tensor]) -> None:  # returning replaces it
            if self._listening:
                logits_TE, _weights, chosen_TK = output
                real_T = self._real_T
                meter.add(layer.scores(logits_TE), chosen_TK, None if real_T is None else real_T.to(logits_TE.device))

        return listen

    def _figures(self, loads: dict[int, LayerLoad]) -> dict[str, float]:
        """Log keys and values; `self.loads` are still those of the log before."""
        by_layer = {}
        for number, load in loads.items():
            before = self.loads[number].committee if number in self.loads else load.committee
            first = self._first.setdefault(number, load.committee)
            by_layer[number] = {name: float(getattr(load, name)) for name in FIGURES} | {
                "committee_jaccard_previous": _overlap(load.committee, before),
                "committee_jaccard_first": _overlap(load.committee, first),
            }
        names = next(iter(by_layer.values()))
        mean = {f"routing/{name}": sum(of[name] for of in by_layer.values()) / len(by_layer) for name in names}
        width = len(str(max(by_layer)))
        every = {
            f"routing/layer_{number:0{width}}/{name}": of[name] for number, of in by_layer.items() for name in names
        }
        return mean | (every if self.per_layer else {})

    def _add_up(self) -> None:
        """Sum every layer's counts over processes. Each process logs at the same steps, so all come here together."""
        for layer in self._layers:
            for tensor in self._meters[layer.layer].tensors(next(layer.router.parameters()).device):
                torch.distributed.all_reduce(tensor)


def _without_adapters(model: Any) -> Any:
    """The transformers model inside a PEFT model; any other model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _overlap(a: frozenset[int], b: frozenset[int]) -> float:
    """Jaccard overlap of two sets that are not empty."""
    return len(a & b) / len(a | b)
