"""transformers' Trainer for the text of a recipe: its arguments, losses, precision and callbacks.

`timed_steps` takes the same steps without a Trainer, to estimate the duration of a training run.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from turnout.listener import Listener
from turnout.models.fast.experts import set_fast_experts
from turnout.models.wrap.anatomy import MoELayer, read
from turnout.training.balancing import layer_balancing
from turnout.training.bfloat16 import set_fast_bfloat16
from turnout.training.checkpoints import MarkComplete, StrictResume
from turnout.training.model import starting_model
from turnout.training.recipe import TrainRecipe
from turnout.training.sequences import Mixture, require_isolation, windows
from turnout.training.tokens import Tokens

LOG_STEPS = 10
"""Optimizer steps between two training logs."""


class TextTrainer(StrictResume, Trainer):  # type: ignore[misc]  # Any: transformers ships no types
    """Trainer that adds the layers' balancing loss in training only, and also logs the loss of the text by itself.

    Attributes:
        cpu_autocast: whether forwards run under bfloat16 autocast on the CPU. accelerate's own autocast would copy all
            logits to float32, which nothing reads.
        balancing_weight: weight of the mean of the layers' balancing losses.
        layers: the layers that are balanced.
    """

    cpu_autocast = False
    balancing_weight = 0.0
    layers: tuple[MoELayer, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._text_losses: list[Tensor] = []

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The model's own loss; in training, plus the layers' mean balancing loss times its weight."""
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with layer_balancing(self.layers) as losses, self._recorded_text_loss():
            own, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss = own + self.balancing_weight * torch.stack(losses).mean() if losses else own
        return (loss, outputs) if return_outputs else loss

    @contextmanager
    def _recorded_text_loss(self) -> Iterator[None]:
        """Inside, record what the model's loss function returns: the loss of the text, before any term is added."""
        function = self.model.loss_function

        def recorded(*args: Any, **kwargs: Any) -> Tensor:
            loss: Tensor = function(*args, **kwargs)
            self._text_losses.append(loss.detach().clone())  # families add to it in place
            return loss

        self.model.loss_function = recorded
        try:
            yield
        finally:
            self.model.loss_function = function

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The Trainer's log; beside "loss", which is minimized, it contains "lm_loss", that of the text alone."""
        if "loss" in logs and self._text_losses:
            logs["lm_loss"] = float(torch.stack(self._text_losses).mean())
            self._text_losses.clear()
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The Trainer's evaluation, without the family's load-balancing loss: nats per token."""
        config = self.model.config
        if not getattr(config, "output_router_logits", False):
            return super().evaluate(*args, **kwargs)
        config.output_router_logits = False
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            config.output_router_logits = True

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> AbstractContextManager[None]:
        """Autocast of each forward, in training and evaluation."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.cpu_autocast, cache_enabled=cache_enabled)


class ReportTokens(TrainerCallback):  # type: ignore[misc]  # Any: transformers ships no types
    """Report the number of training tokens that are done to a listener."""

    def __init__(self, recipe: TrainRecipe, listener: Listener) -> None:
        self._listener, self._per_step, self._steps = listener, recipe.tokens_per_step, recipe.steps

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002  the Trainer's names
        state: TrainerState,
        control: TrainerControl,
        **_: object,
    ) -> TrainerControl:
        """After each optimizer step."""
        total = self._steps * self._per_step
        self._listener.progress("training", state.global_step * self._per_step, total, "tokens")
        return control


def make_trainer(
    recipe: TrainRecipe,
    checkpoints: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tokens: Mapping[str, dict[str, Tokens]],
    callbacks: Sequence[TrainerCallback],
) -> TextTrainer:
    """The Trainer of a recipe.

    Args:
        recipe: the training run.
        checkpoints: folder of its checkpoints.
        model: the model to train, in place.
        tokenizer: its tokenizer.
        tokens: {split: {source: tokens}}.
        callbacks: further callbacks.

    Raises:
        RecipeError: documents are to be isolated in a model that mixes them, or a source is shorter than a sequence.
    """
    if recipe.data.isolated:
        require_isolation(model)
    cpu_autocast = _prepare_for_speed(model, recipe)
    weights = {source.name: source.weight for source in recipe.data.sources}
    length, n = recipe.data.sequence_length, recipe.steps * recipe.schedule.batch_size
    trainer = TextTrainer(
        model=model,
        args=_arguments(recipe, checkpoints, bf16=recipe.schedule.precision == "bfloat16" and not cpu_autocast),
        train_dataset=Mixture(tokens["train"], weights, length, n, recipe.seed, _end(recipe, tokenizer)),
        eval_dataset=evaluation_sets(recipe, tokenizer, tokens["held_out"]),
        callbacks=[MarkComplete(), *callbacks],
    )
    dense = recipe.model is not None and recipe.model.experts == 1
    trainer.cpu_autocast, trainer.balancing_weight = cpu_autocast, 0.0 if dense else recipe.schedule.layer_balancing
    trainer.layers = read(model).layers if trainer.balancing_weight else ()
    trainer.remove_callback(PrinterCallback)  # the listener receives progress
    return trainer


def evaluation_sets(
    recipe: TrainRecipe, tokenizer: PreTrainedTokenizerBase, held_out: Mapping[str, Tokens]
) -> dict[str, Dataset[dict[str, Tensor]]]:
    """Each source's held-out sequences."""
    length, limit, end = recipe.data.sequence_length, recipe.data.evaluation_tokens, _end(recipe, tokenizer)
    return {name: windows(tokens, length, limit, end) for name, tokens in held_out.items()}


def timed_steps(recipe: TrainRecipe, tokenizer: PreTrainedTokenizerBase, n: int) -> Iterator[None]:
    """Take `n` optimizer steps on random tokens, and yield after each; without our balancing loss."""
    model = starting_model(recipe, tokenizer).train()
    cpu_autocast = _prepare_for_speed(model, recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.schedule.learning_rate, fused=True)
    shape = (recipe.schedule.batch_size, recipe.data.sequence_length)
    ids = torch.randint(len(tokenizer), shape, generator=torch.Generator().manual_seed(0)).to(model.device)
    for _ in range(n):
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_autocast):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield


def _prepare_for_speed(model: PreTrainedModel, recipe: TrainRecipe) -> bool:
    """Choose the implementations that make bfloat16 autocast fast on a CPU; return whether they are in use.

    In float32 transformers' own "grouped_mm" experts train faster: ours prepare a kernel for each new number of
    tokens, and experts receive another number at every step.
    """
    cpu_autocast = recipe.schedule.precision == "bfloat16" and not torch.accelerator.is_available()
    if cpu_autocast:
        set_fast_experts(model)
        set_fast_bfloat16(model)
    return cpu_autocast


def _end(recipe: TrainRecipe, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that separates isolated documents."""
    return tokenizer.eos_token_id if recipe.data.isolated else None


def _arguments(recipe: TrainRecipe, checkpoints: Path, bf16: bool) -> TrainingArguments:
    schedule = recipe.schedule
    return TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=recipe.steps,
        per_device_train_batch_size=schedule.batch_size,
        per_device_eval_batch_size=schedule.batch_size,
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=round(schedule.warmup * recipe.steps),
        weight_decay=schedule.weight_decay,
        adam_beta2=0.95,
        optim="adamw_torch_fused",
        max_grad_norm=1.0,
        bf16=bf16,
        seed=recipe.seed,
        train_sampling_strategy="sequential",  # the mixture has a random order already, the same after a resume
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        prediction_loss_only=True,
        eval_strategy="steps",
        eval_steps=schedule.evaluate_every,
        save_strategy="steps",
        save_steps=schedule.save_every,
        save_total_limit=2,  # the one that is being written, and the last complete one
        logging_steps=LOG_STEPS,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=[],
        log_level="error",
    )
