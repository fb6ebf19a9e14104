"""`turnout.train`: next-token training of a MoE from a recipe, coupled or not."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.api.deprecated import former_names
from turnout.coupling.config import CoupleConfig
from turnout.listener import Listener
from turnout.runs.opening import open_run
from turnout.training.recipe import TrainRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

    from turnout.training.result import TrainResult


@former_names()
def train(
    recipe: TrainRecipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    erc: CoupleConfig | Mapping[str, Any] | str | None = None,
    match_norms: str | Path | None = None,
    model: "PreTrainedModel | None" = None,
    callbacks: "Sequence[TrainerCallback]" = (),
    tokens_in: str | Path | None = None,
    prepare: "Callable[[PreTrainedModel], Sequence[TrainerCallback]] | None" = None,
    inputs: Mapping[str, object] | None = None,
    listener: Listener | None = None,
) -> "TrainResult":
    """Train a MoE from a recipe through transformers' Trainer; the checkpoint is a plain transformers one.

    A run that was killed continues from its last complete checkpoint and, on one machine, ends with the same weights as
    an unbroken one. A complete run is read, not trained again.

    >>> result = turnout.train("recipe.yaml", "trained", erc="alpha=1,weight=10")
    >>> result.losses, result.model

    Args:
        recipe: the YAML file, its content, or a TrainRecipe.
        out: the run's folder.
        erc: couple the model while it trains (ERC loss, arXiv 2512.23447): a CoupleConfig, its settings as a mapping,
            or "NAME=VALUE,…". Where a mapping or text has no `seed`, it is the recipe's.
        match_norms: folder of a run that was trained with `erc`; routers and gates are scaled down to the norms that
            they had there, a control.
        model: train this model instead of a new one; it must fit the recipe's tokenizer.
        callbacks: further Trainer callbacks.
        tokens_in: a folder that runs on the same text share, so that it is tokenized once; None: the run's own.
        prepare: changes the model before it trains, in place, and returns callbacks.
        inputs: JSON values that `prepare` depends on; they belong to what identifies the run.
        listener: receives progress, and notes on the coupled model.

    Returns:
        The stored result: `.model` (the checkpoint's folder), `.losses`, `.steps`, `.tokens`, `.frame()`.

    Raises:
        RecipeError: the recipe does not fit its files or architecture, or a setting of `erc` does not fit.
        ModelError: the model cannot be coupled.
        RunError: `out` contains another run or something else, or `match_norms` no coupled run.
    """
    from turnout.coupling.trainer import CoupledTraining
    from turnout.training.model import starting_model
    from turnout.training.result import TrainResult
    from turnout.training.run import KEEP, inputs_of
    from turnout.training.run import run as run_training
    from turnout.training.tokens import load_tokenizer

    listener = listener or Listener()
    recipe = _recipe(recipe)
    coupled = CoupledTraining.of(_couple_config(erc, recipe.seed), match_norms)
    tokenizer = load_tokenizer(recipe.data.tokenizer)
    identity = inputs_of(recipe) | coupled.inputs | dict(inputs or {})
    with open_run(out, identity, listener, keep=KEEP) as run:
        if not run.complete:
            model = model or starting_model(recipe, tokenizer)
            attached = [*coupled.attach(model, listener), *(prepare(model) if prepare is not None else ())]
            run_training(
                recipe, model, tokenizer, run, listener, callbacks=[*callbacks, *attached], tokens_in=tokens_in
            )
    return run.load(TrainResult)


def _recipe(recipe: TrainRecipe | Mapping[str, Any] | str | Path) -> TrainRecipe:
    if isinstance(recipe, TrainRecipe):
        return recipe
    return TrainRecipe.parse(recipe) if isinstance(recipe, Mapping) else TrainRecipe.load(recipe)


def _couple_config(erc: CoupleConfig | Mapping[str, Any] | str | None, seed: int) -> CoupleConfig | None:
    """The settings of the term; the recipe's seed unless they name another."""
    if erc is None or isinstance(erc, CoupleConfig):
        return erc
    return CoupleConfig.parse(erc, seed=seed) if isinstance(erc, str) else CoupleConfig.of({"seed": seed, **erc})
