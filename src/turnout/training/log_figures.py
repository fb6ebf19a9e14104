"""Figures that callbacks add to a Trainer's logs: for every layer and the mean, for every reporter and the history."""

import sys
from collections.abc import Mapping

from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import CallbackHandler


def go_first(callback: TrainerCallback) -> None:
    """Make `callback` the first of the callbacks of the Trainer that is calling it.

    Reporters (wandb, TensorBoard, …) precede a user's callbacks and have already sent a log when those change it. A
    callback has no reference to its Trainer, but the handler that calls it is a frame or two above.

    Raises:
        RuntimeError: no Trainer's CallbackHandler is calling.
    """
    frame = sys._getframe(1)
    while frame is not None and not isinstance(frame.f_locals.get("self"), CallbackHandler):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        name = type(callback).__name__
        raise RuntimeError(f"{name}.on_train_begin must be called by a Trainer's CallbackHandler")
    handler = frame.f_locals["self"]
    handler.callbacks = [callback, *(other for other in handler.callbacks if other is not callback)]


def named_figures(prefix: str, by_layer: Mapping[int, Mapping[str, float]], per_layer: bool) -> dict[str, float]:
    """`PREFIX/FIGURE`, the mean over layers, and with `per_layer` also `PREFIX/layer_NN/FIGURE`.

    >>> named_figures("routing", {3: {"balance": 1.0}, 11: {"balance": 2.0}}, per_layer=True)
    {'routing/balance': 1.5, 'routing/layer_03/balance': 1.0, 'routing/layer_11/balance': 2.0}

    Args:
        prefix: first part of the names.
        by_layer: {decoder layer: {figure: value}}, the same figures in every layer.
        per_layer: whether the figures of each layer are included.
    """
    names = next(iter(by_layer.values()))
    mean = {f"{prefix}/{name}": sum(of[name] for of in by_layer.values()) / len(by_layer) for name in names}
    if not per_layer:
        return mean
    width = len(str(max(by_layer)))
    return mean | {
        f"{prefix}/layer_{layer:0{width}}/{name}": of[name] for layer, of in by_layer.items() for name in names
    }


def add_to_log(figures: Mapping[str, float], logs: dict[str, float], state: TrainerState) -> None:
    """Add figures to a log and to its entry in the state's history, which is written before callbacks are called."""
    logs.update(figures)
    if state.log_history and state.log_history[-1].get("step") == state.global_step:
        state.log_history[-1].update(figures)
