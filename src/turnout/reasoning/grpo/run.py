"""GRPO's work in its run folder: answer the test problems, train, answer them again, write the files."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout.errors import ModelError
from turnout.listener import Listener
from turnout.models.wrap.anatomy import read
from turnout.reasoning.answers import answer
from turnout.reasoning.grpo.config import GrpoConfig
from turnout.reasoning.grpo.result import ANSWERS, CURVES, GRPO_FILE, answer_table, content_of, curve_table
from turnout.reasoning.grpo.trainer import require_trl, train
from turnout.runs import RunFolder
from turnout.tasks.exercises import Exercise

MODEL, CHECKPOINTS = "model", ".checkpoints"
KEEP = (f"{CHECKPOINTS}/*",)
"""Files of an unfinished run that are worth resuming from."""


def run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Exercise],
    tested: Sequence[Exercise],
    config: GrpoConfig,
    folder: RunFolder,
    listener: Listener,
    *,
    described: Mapping[str, Any],
    tasks: str,
) -> None:
    """Train `model` in place for the reward of right final answers, and complete the run in `folder`.

    The reward is 1 if the final answer that is parsed from the text equals the gold one, else 0; text is never run.
    An unfinished run resumes from its last whole checkpoint, with the weights and answers of an unbroken one.

    Args:
        model: a causal language model in float32, MoE or dense.
        tokenizer: its tokenizer.
        problems: the training problems.
        tested: the test problems, answered before and after.
        config: the settings.
        folder: an open, unfinished run; `model/` in it becomes the trained checkpoint.
        listener: receives the number of steps done.
        described: the description of the model in grpo.json.
        tasks: the exercises, as they were named.

    Raises:
        MissingExtraError: TRL is not installed.
        ModelError: `routers` is "frozen" and the model has none.
    """
    require_trl()
    before = answer(model, tokenizer, tested, config.max_new_tokens)
    frozen = _freeze_routers(model) if config.routers == "frozen" else []
    history = train(model, tokenizer, problems, config, folder.path / CHECKPOINTS, listener)
    for parameter in frozen:
        parameter.requires_grad_(True)
    after = answer(model, tokenizer, tested, config.max_new_tokens)
    model.save_pretrained(folder.path / MODEL)
    tokenizer.save_pretrained(folder.path / MODEL)
    folder.write_table(CURVES, curve_table(history).to_arrow())
    folder.write_table(ANSWERS, answer_table(tested, before, after).to_arrow())
    folder.write_json(GRPO_FILE, content_of(described, tasks, config, tested, before, after))
    folder.finish(seed=config.seed)
    shutil.rmtree(folder.path / CHECKPOINTS, ignore_errors=True)


def _freeze_routers(model: PreTrainedModel) -> list[nn.Parameter]:
    """Exclude the routers' parameters from training; those that were trainable before."""
    try:
        layers = read(model).layers
    except ModelError as error:
        raise ModelError("routers frozen", expected="a model that has routers", received=error) from error
    parameters = [p for layer in layers for p in layer.router.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    return parameters
