"""A training run in its folder: tokens, transformers' Trainer, the trained checkpoint, the metrics.

`model/` contains the trained model and its tokenizer, `tables/metrics.parquet` what was logged while training. Tokens
and checkpoints are in hidden folders; the checkpoints are removed when the run is complete.
"""

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback
from transformers.utils import logging

from turnout.errors import RecipeError
from turnout.listener import Listener
from turnout.runs import RunFolder
from turnout.runs.json_files import json_sha256, sha256
from turnout.training.checkpoints import newest_complete
from turnout.training.recipe import TrainRecipe
from turnout.training.result import MODEL, TRAIN_FILE, metrics_table
from turnout.training.tokens import EXERCISES, Tokens, prepare_tokens
from turnout.training.trainer import ReportTokens, evaluation_sets, make_trainer

CHECKPOINTS, TOKENS = ".checkpoints", ".tokens"
KEEP = (f"{CHECKPOINTS}/checkpoint-*",)
"""Files of an unfinished training run that are worth resuming from."""


def inputs_of(recipe: TrainRecipe) -> dict[str, object]:
    """What identifies a training run: the recipe, and the digest of every file that it names.

    Raises:
        RecipeError: a file or folder that does not exist.
    """
    return {"verb": "train", "recipe": recipe.describe(), "files": recipe_files(recipe)}


def recipe_files(recipe: TrainRecipe) -> dict[str, str]:
    """SHA-256 of every file that the recipe names, by path.

    Raises:
        RecipeError: a file or folder that does not exist.
    """
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


def run(
    recipe: TrainRecipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: RunFolder,
    listener: Listener,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    tokens_in: str | Path | None = None,
) -> None:
    """Train the model, and complete the run in `folder`.

    A killed run continues from its last complete checkpoint and, on one machine, ends with the same weights as an
    unbroken one.

    Args:
        recipe: text and schedule.
        model: the model to train, in place; its weights are those of the checkpoint if there is one.
        tokenizer: the recipe's tokenizer.
        folder: an open, unfinished run.
        listener: receives the number of tokens trained, and the device.
        callbacks: further Trainer callbacks.
        tokens_in: a folder that runs on the same text share, so that it is tokenized once; None: the run's own.

    Raises:
        RecipeError: a source that cannot be read or is too short, documents that the model cannot isolate, or a
            held-out loss that is not finite.
    """
    kept = folder.path / TOKENS if tokens_in is None else Path(tokens_in) / _text_key(folder.inputs)
    tokens = prepare_tokens(recipe.data, kept, recipe.seed, listener)
    with _without_bars():
        reported = [ReportTokens(recipe, listener), *callbacks]
        trainer = make_trainer(recipe, folder.path / CHECKPOINTS, model, tokenizer, tokens, reported)
        listener.info(f"device: {trainer.args.device}, {recipe.schedule.precision}")
        start = time.monotonic()
        checkpoint = newest_complete(folder.path / CHECKPOINTS)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        _write(folder, recipe, model, tokenizer, trainer, tokens["held_out"])
    from_step = int(checkpoint.name.partition("-")[2]) if checkpoint else 0
    folder.finish(seed=recipe.seed, timings={"seconds": time.monotonic() - start, "from_step": from_step})
    shutil.rmtree(folder.path / CHECKPOINTS, ignore_errors=True)


def _write(
    folder: RunFolder,
    recipe: TrainRecipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trainer: Trainer,
    held_out: Mapping[str, Tokens],
) -> None:
    """Score the held-out text once more, then write weights, tokenizer and metrics."""
    scores = trainer.evaluate(evaluation_sets(recipe, tokenizer, held_out))
    losses = {name: scores[f"eval_{name}_loss"] for name in held_out}
    not_finite = {source: loss for source, loss in losses.items() if not math.isfinite(loss)}
    if not_finite:
        expected, do = "finite held-out losses", "try a lower learning rate"
        raise RecipeError("training", expected=expected, received=not_finite, do=do)
    model.save_pretrained(folder.path / MODEL)
    tokenizer.save_pretrained(folder.path / MODEL)
    folder.write_table("metrics", metrics_table(trainer.state.log_history, list(losses)).to_arrow())
    counts = {"steps": recipe.steps, "tokens": recipe.steps * recipe.tokens_per_step}
    folder.write_json(TRAIN_FILE, {"schema": 1, **counts, "held_out_loss": losses})


def _text_key(inputs: Mapping[str, Any]) -> str:
    """Digest of what the tokens depend on: the recipe's data, the files, and the seed if it is that of the text."""
    data = inputs["recipe"]["data"]
    seed = inputs["recipe"]["seed"] if data["worlds_seed"] is None else None
    return json_sha256({"data": data, "files": inputs["files"], "seed": seed})[:16]


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hide the bars that transformers draws when it saves and loads; the listener receives the progress."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
