"""Where a callback stands among a Trainer's: before the reporters, if they are to send on what it adds to a log."""

import sys

from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler


def go_first(callback: TrainerCallback) -> None:
    """Make `callback` the first of the callbacks of the Trainer that is calling it.

    Reporters (wandb, TensorBoard, …) come before a user's callbacks and have sent a log on by the time these see it. A
    callback is not told whose it is, but the handler that calls it stands a frame or two above.

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
