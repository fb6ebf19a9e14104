"""transformers' Trainer for text: balancing in training alone, autocast on a CPU, the loss of the text by itself."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from transformers import Trainer

from turnout.models.wrap.anatomy import MoELayer
from turnout.training.balancing import balancing
from turnout.training.checkpoints import StrictResume


class TextTrainer(StrictResume, Trainer):  # type: ignore[misc]  # Any: transformers ships no types
    """Scores held-out text alone, without the load-balancing term; autocast on a CPU is bfloat16's where asked.

    accelerate's own autocast copies all logits to float32, though nobody reads them.
    """

    cpu_autocast = False
    balancing = 0.0
    layers: tuple[MoELayer, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heard: list[torch.Tensor] = []

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The model's own loss; in training, plus the layers' mean balancing loss times its weight."""
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with balancing(self.layers) as losses, self._hearing():
            own, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss = own + self.balancing * torch.stack(losses).mean() if losses else own
        return (loss, outputs) if return_outputs else loss

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        """Inside, note what the model's loss function returns: the loss of the text, before anything is added to it."""
        function = self.model.loss_function

        def heard(*args: Any, **kwargs: Any) -> torch.Tensor:
            loss: torch.Tensor = function(*args, **kwargs)
            self._heard.append(loss.detach().clone())  # families add to it in place
            return loss

        self.model.loss_function = heard
        try:
            yield
        finally:
            self.model.loss_function = function

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The Trainer's own; beside "loss", what is minimised, "lm_loss", that of the text alone."""
        if "loss" in logs and self._heard:
            logs["lm_loss"] = float(torch.stack(self._heard).mean())
            self._heard.clear()
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The Trainer's own, with losses in nats a token."""
        config = self.model.config
        if not getattr(config, "output_router_logits", False):
            return super().evaluate(*args, **kwargs)
        config.output_router_logits = False
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            config.output_router_logits = True

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> AbstractContextManager[None]:
        """Entered around each forward pass, training or evaluation."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.cpu_autocast, cache_enabled=cache_enabled)
