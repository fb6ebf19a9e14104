"""Small trained models: their tokenizer, checkpoints at given steps, and the metrics that were logged."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import polars as pl
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState

from turnout import TrainRecipe
from turnout.embedded.build import train_tokenizer
from turnout.training.documents import documents

VOCABULARY, DOCUMENTS = 1024, 5000


def ensure_tokenizer(recipe: TrainRecipe) -> None:
    """Train the recipe's tokenizer on the start of its sources, unless it is there."""
    if (recipe.data.tokenizer / "tokenizer.json").exists():
        return
    texts = (t for s in recipe.data.sources for t in documents(s, recipe.data.held_out, 0)["train"][:DOCUMENTS])
    assert recipe.model is not None
    train_tokenizer(texts, VOCABULARY, recipe.data.tokenizer, recipe.model.context)


class KeepCheckpoints(TrainerCallback):  # type: ignore[misc]  # Any: transformers ships no types
    """Save the model after some steps, each time as a plain checkpoint.

    Args:
        steps: of the optimizer.
        folder: the checkpoint's folder, by step.
        tokenizer: saved beside the model if given.
        stop: end the training after the last of the steps.
    """

    def __init__(
        self, steps: Collection[int], folder: Callable[[int], Path], tokenizer: Any = None, stop: bool = False
    ) -> None:
        self._steps, self._folder, self._tokenizer, self._stop = steps, folder, tokenizer, stop

    def on_step_end(
        self,
        _args: Any,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **_: Any,
    ) -> None:
        """Save after a step that is kept."""
        if state.global_step in self._steps:
            assert model is not None
            model.save_pretrained(self._folder(state.global_step))
            if self._tokenizer is not None:
                self._tokenizer.save_pretrained(self._folder(state.global_step))
        if self._stop:
            control.should_training_stop |= state.global_step >= max(self._steps)


def logged(run: Path, pattern: str) -> list[list[Any]]:
    """[step, metric, value] of each value that a training run logged of the metrics that match `pattern`."""
    metrics = pl.read_parquet(run / "tables" / "metrics.parquet", glob=False).filter(
        pl.col("metric").str.contains(pattern)
    )
    return [list(row) for row in metrics.select("step", "metric", "value").iter_rows()]
