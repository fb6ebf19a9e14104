"""Next-token training of a MoE from a recipe, through transformers' Trainer.

The out folder is a run's folder (see `turnout.runs`): inputs first, manifest last. Inside it `model/` holds the trained
model and its tokenizer, `tables/metrics.parquet` what was measured while training; tokens and checkpoints lie in hidden
folders, and the checkpoints go when the run is complete.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
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
from transformers.utils import logging

from turnout.errors import RecipeError
from turnout.models.fast.experts import set_fast_experts
from turnout.models.wrap.anatomy import read
from turnout.progress import Progress, silent
from turnout.runs import RunFolder
from turnout.runs.json_files import json_sha256, sha256
from turnout.training.bfloat16 import set_fast_bfloat16
from turnout.training.checkpoints import MarkComplete, newest_complete
from turnout.training.data import Mixture, Tokens, load_tokenizer, windows
from turnout.training.data import prepare as prepare_tokens
from turnout.training.exercise_tokenizer import EXERCISES
from turnout.training.isolation import require_isolation
from turnout.training.model import build_model, load_model
from turnout.training.recipe import TrainRecipe
from turnout.training.text_trainer import TextTrainer

MODEL, CHECKPOINTS, TOKENS = "model", ".checkpoints", ".tokens"
_LOG_STEPS = 10


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind.

    Attributes:
        path: the run's folder.
        model: the folder of the trained model.
        steps: optimiser steps of the whole run.
        tokens: training tokens of the whole run.
        losses: held-out loss by source at the end, nats a token.
        already_complete: the folder held this run, finished; nothing was computed.
        resumed_at: the step that this call went on from; 0 if it began the run.
    """

    path: Path
    model: Path
    steps: int
    tokens: int
    losses: dict[str, float]
    already_complete: bool = False
    resumed_at: int = 0

    def to_dict(self) -> dict[str, object]:
        """JSON values only."""
        return {
            "path": str(self.path),
            "model": str(self.model),
            "steps": self.steps,
            "tokens": self.tokens,
            "held_out_loss": self.losses,
            "already_complete": self.already_complete,
            "resumed_at": self.resumed_at,
        }

    def summary(self) -> str:
        """What happened, in two lines."""
        what = "was complete already" if self.already_complete else "trained"
        resumed = f", resumed at step {self.resumed_at:,}" if self.resumed_at else ""
        losses = ", ".join(f"{name} {loss:.3f}" for name, loss in self.losses.items())
        head = f"{self.model} {what}: {self.steps:,} steps, {self.tokens:,} tokens{resumed}"
        return f"{head}\nheld-out loss in nats a token: {losses}"


def train(
    recipe: TrainRecipe,
    out: str | Path,
    progress: Progress = silent,
    *,
    model: PreTrainedModel | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    tokens_in: str | Path | None = None,
    prepare: Callable[[PreTrainedModel], Sequence[TrainerCallback]] | None = None,
    inputs: Mapping[str, object] | None = None,
) -> TrainResult:
    """Train the model of `recipe` into the folder `out`.

    A run that was killed goes on from its last whole checkpoint and, on one machine, ends with the same weights as one
    that was not. A folder that holds this run complete is left as it is.

    Args:
        recipe: what to train on what.
        out: the run's folder; new, empty, or this run's.
        progress: hears of tokens trained.
        model: to train instead of a freshly initialised one; it must fit the recipe's tokenizer.
        callbacks: further Trainer callbacks.
        tokens_in: a folder that runs on the same text share, so that it is tokenised once; None keeps the tokens in
            the run.
        prepare: does to the model what a recipe cannot say, before it trains, and returns callbacks for it.
        inputs: what `prepare` depends on, JSON values; they are part of what makes this run this run.

    Raises:
        RecipeError: the recipe does not fit its files or architecture.
        RunError: `out` holds another run or something that is no run.
    """
    tokenizer = load_tokenizer(recipe.data.tokenizer)
    with RunFolder.open(out, _inputs(recipe) | dict(inputs or {})) as run, _without_bars():
        if run.complete:
            return _finished(run, already_complete=True)
        model = model or _model(recipe, tokenizer)
        callbacks = [*callbacks, *(prepare(model) if prepare is not None else ())]
        kept = run.path / TOKENS if tokens_in is None else Path(tokens_in) / _text_key(run.inputs)
        tokens = prepare_tokens(recipe.data, kept, recipe.seed, progress)
        trainer = _trainer(recipe, run.path, model, tokenizer, tokens, [Announce(recipe, progress), *callbacks])
        start = time.monotonic()
        checkpoint = newest_complete(run.path / CHECKPOINTS)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        resumed_at = int(checkpoint.name.partition("-")[2]) if checkpoint else 0
        _save(run, recipe, model, tokenizer, trainer, tokens)
        run.finish(seed=recipe.seed, timings={"seconds": time.monotonic() - start, "from_step": resumed_at})
        shutil.rmtree(run.path / CHECKPOINTS, ignore_errors=True)
        return _finished(run, resumed_at=resumed_at)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Transformers draws bars of its own when it saves and loads; `progress` is the one who is told."""
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


class Announce(TrainerCallback):  # type: ignore[misc]  # Any: transformers ships no types
    """Tells `progress` how many training tokens are done."""

    def __init__(self, recipe: TrainRecipe, progress: Progress) -> None:
        self._progress, self._total = progress, recipe.steps
        self._per_step = recipe.schedule.batch_size * recipe.data.sequence_length

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002  the Trainer's names
        state: TrainerState,
        control: TrainerControl,
        **_: object,
    ) -> TrainerControl:
        """Called after each optimiser step."""
        self._progress("training", state.global_step * self._per_step, self._total * self._per_step, "tokens")
        return control


def _model(recipe: TrainRecipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    if recipe.start is not None:
        return load_model(recipe.start)
    assert recipe.model is not None
    return build_model(recipe.model, tokenizer, recipe.seed)


def _inputs(recipe: TrainRecipe) -> dict[str, object]:
    """What makes this run this run."""
    return {"verb": "train", "recipe": recipe.model_dump(mode="json"), "files": recipe_files(recipe)}


def recipe_files(recipe: TrainRecipe) -> dict[str, str]:
    """SHA-256 of every file that the recipe names, by path; RecipeError for one that is not there."""
    paths = [s.path for s in recipe.data.sources if s.path is not None]
    if recipe.data.tokenizer != EXERCISES or EXERCISES.exists():
        paths.append(recipe.data.tokenizer / "tokenizer.json")
    if recipe.start is not None:
        paths.append(recipe.start)
    for path in paths:
        if not path.exists():
            raise RecipeError(path, expected="a file or folder that the recipe names", received="nothing there")
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return {str(file): sha256(file) for file in files if file.is_file()}


def _text_key(inputs: Mapping[str, Any]) -> str:
    """What the tokens depend on: the recipe's data, the files' bytes and, where worlds are drawn by it, the seed."""
    data = inputs["recipe"]["data"]
    seed = inputs["recipe"]["seed"] if data["worlds_seed"] is None else None
    return json_sha256({"data": data, "files": inputs["files"], "seed": seed})[:16]


def _trainer(
    recipe: TrainRecipe,
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tokens: dict[str, dict[str, Tokens]],
    callbacks: Sequence[TrainerCallback],
) -> Trainer:
    if recipe.data.isolated:
        require_isolation(model)
    cpu_autocast = _prepare_for_speed(model, recipe)
    end = _end(recipe, tokenizer)
    weights = {source.name: source.weight for source in recipe.data.sources}
    length, sequences = recipe.data.sequence_length, recipe.steps * recipe.schedule.batch_size
    trainer = TextTrainer(
        model=model,
        args=_arguments(recipe, folder, bf16=recipe.schedule.precision == "bfloat16" and not cpu_autocast),
        train_dataset=Mixture(tokens["train"], weights, length, sequences, recipe.seed, end),
        eval_dataset=_evaluation(recipe, tokens["held_out"], end),
        callbacks=[MarkComplete(), *callbacks],
    )
    dense = recipe.model is not None and recipe.model.experts == 1
    trainer.cpu_autocast, trainer.balancing = cpu_autocast, 0.0 if dense else recipe.schedule.balancing
    trainer.layers = read(model).layers if trainer.balancing else ()
    trainer.remove_callback(PrinterCallback)  # `progress` tells
    return trainer


def timed_steps(recipe: TrainRecipe, tokenizer: PreTrainedTokenizerBase, n: int) -> Iterator[None]:
    """Take `n` optimiser steps on random tokens, yielding after each: `train`'s cost without its balancing loss."""
    model = _model(recipe, tokenizer).train()
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
    """Choose what makes bfloat16 autocast pay on a CPU, where it is asked for; whether that is so.

    In float32 transformers' own "grouped_mm" experts are the faster ones to train: ours set a kernel up for each new
    number of tokens, and experts see another number at every step.
    """
    cpu_autocast = recipe.schedule.precision == "bfloat16" and not torch.accelerator.is_available()
    if cpu_autocast:
        set_fast_experts(model)
        set_fast_bfloat16(model)
    return cpu_autocast


def _end(recipe: TrainRecipe, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that parts isolated documents."""
    return tokenizer.eos_token_id if recipe.data.isolated else None


def _evaluation(
    recipe: TrainRecipe, held_out: dict[str, Tokens], end: int | None
) -> dict[str, Dataset[dict[str, torch.Tensor]]]:
    length, most = recipe.data.sequence_length, recipe.data.evaluation_tokens
    return {name: windows(tokens, length, most, end) for name, tokens in held_out.items()}


def _arguments(recipe: TrainRecipe, folder: Path, bf16: bool) -> TrainingArguments:
    schedule = recipe.schedule
    return TrainingArguments(
        output_dir=str(folder / CHECKPOINTS),
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
        train_sampling_strategy="sequential",  # the mixture is in random order already, the same after a resume
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        prediction_loss_only=True,
        eval_strategy="steps",
        eval_steps=schedule.evaluate_every,
        save_strategy="steps",
        save_steps=schedule.save_every,
        save_total_limit=2,  # the one being written, and the last one that is whole
        logging_steps=_LOG_STEPS,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=[],
        log_level="error",
    )


def _save(
    run: RunFolder,
    recipe: TrainRecipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trainer: Trainer,
    tokens: dict[str, dict[str, Tokens]],
) -> None:
    """Score the held-out text once more, then write weights, tokenizer and metrics."""
    losses = trainer.evaluate(_evaluation(recipe, tokens["held_out"], _end(recipe, tokenizer)))
    by_source = {name: losses[f"eval_{name}_loss"] for name in tokens["held_out"]}
    wild = {source: loss for source, loss in by_source.items() if not math.isfinite(loss)}
    if wild:
        expected, do = "finite held-out losses", "try a lower learning rate"
        raise RecipeError("training", expected=expected, received=wild, do=do)
    model.save_pretrained(run.path / MODEL)
    tokenizer.save_pretrained(run.path / MODEL)
    run.write_table("metrics", _metrics(trainer.state.log_history, list(by_source)).to_arrow())
    steps = recipe.steps
    per_step = recipe.schedule.batch_size * recipe.data.sequence_length
    run.write_json("train.json", {"schema": 1, "steps": steps, "tokens": steps * per_step, "held_out_loss": by_source})


def _metrics(history: Sequence[dict[str, float]], sources: Sequence[str]) -> pl.DataFrame:
    """Tidy: one row a (step, metric, source); `source` is null for what concerns the training text.

    What callbacks add to the logs ("coupling/erc") is kept by that name; a share of time ("overhead/…") is not: tables
    hold no times.
    """
    keys: dict[str, tuple[str, str | None]]
    keys = {name: (name, None) for name in ("loss", "lm_loss", "learning_rate", "grad_norm")}
    keys |= {f"eval_{source}_loss": ("held_out_loss", source) for source in sources}
    keys |= {key: (key, None) for entry in history for key in entry if "/" in key and not key.startswith("overhead/")}
    rows = {(entry["step"], *keys[key]): float(entry[key]) for entry in history for key in entry if key in keys}
    names = {"step": pl.Int64, "metric": pl.String, "source": pl.String, "value": pl.Float64}
    return pl.DataFrame([(*where, value) for where, value in rows.items()], schema=names, orient="row")


def _finished(run: RunFolder, *, already_complete: bool = False, resumed_at: int = 0) -> TrainResult:
    stored = run.read_json("train.json")
    losses = stored["held_out_loss"]
    assert isinstance(losses, dict)
    steps, tokens = int(str(stored["steps"])), int(str(stored["tokens"]))
    return TrainResult(run.path, run.path / MODEL, steps, tokens, losses, already_complete, resumed_at)
