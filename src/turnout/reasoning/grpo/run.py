"""`grpo`: a model and problems in; TRL's GRPOTrainer, rewarded for final answers; the model and its gain out."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerState,
)
from transformers.trainer import TRAINER_STATE_NAME

from turnout.errors import MissingExtraError, ModelError
from turnout.models.wrap.anatomy import read
from turnout.progress import Progress, silent
from turnout.reasoning.answered import Answered, answered
from turnout.reasoning.grpo.config import GrpoConfig
from turnout.reasoning.grpo.order import OrderByPass
from turnout.reasoning.grpo.result import ANSWERS, CURVES, GRPO_FILE, Rewarded, content_of
from turnout.runs import RunFolder
from turnout.tasks.exercises import Exercise, digest, load_exercises, parse_answer
from turnout.training.checkpoints import MarkComplete, StrictResume, newest_complete

MODEL, CHECKPOINTS = "model", ".checkpoints"
_LOGGED = {
    "reward": "reward",
    "kl": "kl",
    "loss": "loss",
    "completions/mean_length": "tokens",
    "grad_norm": "grad_norm",
}


def grpo(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: str | Path,
    out: str | Path,
    *,
    described: dict[str, Any],
    progress: Progress = silent,
    **options: Any,
) -> Rewarded:
    """Train `model` in place for the reward of right final answers, and ask it before and after.

    The reward is 1 where the final answer that can be read in the text equals the gold one, else 0; text is never run.
    A run that was killed goes on from its last whole checkpoint, as if it had not been.

    Args:
        model: a causal language model in float32, MoE or dense.
        tokenizer: its tokenizer.
        tasks: as `load_exercises` takes them; training draws from the train split, asking from the test split, but
            facts have none: they are asked as they were taught.
        out: the run's folder; `model/` in it is the trained checkpoint.
        described: what the run records of the model, its digest among it.
        progress: told how many steps are done.
        **options: fields of `GrpoConfig`.

    Raises:
        TurnoutError: TRL is missing, or an option, the problems, the model or the folder do not fit.
    """
    config = GrpoConfig.of(options)
    taught = load_exercises(tasks, config.problems, "train", config.seed)
    asked = load_exercises(tasks, config.asked, "test", config.seed)
    inputs = {"verb": "grpo", "model": described, "tasks": digest([*taught, *asked]), "config": config.describe()}
    with RunFolder.open(out, inputs) as run:
        if run.complete:
            return Rewarded.load(run.path, already_complete=True)
        before = answered(model, tokenizer, asked, config.most_tokens)
        frozen = _freeze_routers(model) if config.routers == "frozen" else []
        history = _train(model, tokenizer, taught, config, run.path / CHECKPOINTS, progress)
        for parameter in frozen:
            parameter.requires_grad_(True)
        after = answered(model, tokenizer, asked, config.most_tokens)
        model.save_pretrained(run.path / MODEL)
        tokenizer.save_pretrained(run.path / MODEL)
        run.write_table(CURVES, _curves(history).to_arrow())
        run.write_table(ANSWERS, _answers(asked, before, after).to_arrow())
        run.write_json(GRPO_FILE, content_of(described, str(tasks), config, asked, before, after))
        run.finish(seed=config.seed)
        shutil.rmtree(run.path / CHECKPOINTS, ignore_errors=True)
        return Rewarded.load(run.path)


def reward(kind_of: dict[str, str]) -> Callable[..., list[float]]:
    """1 for each completion whose final answer is the row's `answer`; `kind_of` says how each prompt's is read."""

    def right(prompts: Sequence[str], completions: Sequence[str], answer: Sequence[str], **_: object) -> list[float]:
        rows = zip(prompts, completions, answer, strict=True)
        return [float(parse_answer(text, kind_of[prompt]) == gold) for prompt, text, gold in rows]  # type: ignore[arg-type]

    return right


def _train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    taught: Sequence[Exercise],
    config: GrpoConfig,
    checkpoints: Path,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Run the trainer; its log history."""
    trl = _trl()
    trainer_class = type("_Trainer", (StrictResume, OrderByPass, trl.GRPOTrainer), {})
    trainer = trainer_class(
        model=model,
        reward_funcs=reward({one.prompt: one.kind for one in taught}),
        args=_arguments(trl.GRPOConfig, config, checkpoints),
        train_dataset=Dataset.from_list([{"prompt": one.prompt, "answer": one.answer} for one in taught]),
        processing_class=tokenizer,
        callbacks=[MarkComplete(), _Announce(config.steps, progress)],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = newest_complete(checkpoints) if checkpoints.exists() else None
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)) if checkpoint else None
    if state is not None and state.global_step >= config.steps:  # the Trainer would take one more
        trainer._load_from_checkpoint(str(checkpoint))
        return list(state.log_history)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return list(trainer.state.log_history)


def _arguments(kind: Any, config: GrpoConfig, checkpoints: Path) -> Any:
    return kind(
        output_dir=str(checkpoints),
        max_steps=config.steps,
        per_device_train_batch_size=config.problems_per_step * config.generations,
        num_generations=config.generations,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        beta=config.kl,
        epsilon=config.clip,
        temperature=config.temperature,
        max_completion_length=config.most_tokens,
        gradient_checkpointing=False,
        bf16=False,
        seed=config.seed,
        logging_steps=1,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


class _Announce(TrainerCallback):  # type: ignore[misc]  # Any: transformers ships no types
    """Tells `progress` how many steps are done."""

    def __init__(self, steps: int, progress: Progress) -> None:
        self._steps, self._progress = steps, progress

    def on_step_end(self, _args: Any, state: TrainerState, _control: Any, **_: Any) -> None:
        """Called after each optimiser step."""
        self._progress("rewarding", state.global_step, self._steps, "steps")


def _freeze_routers(model: PreTrainedModel) -> list[Any]:
    """The routers' parameters, which learn no longer."""
    try:
        layers = read(model).layers
    except ModelError as error:
        raise ModelError("routers frozen", expected="a model that has routers", received=error) from error
    parameters = [p for layer in layers for p in layer.router.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    return parameters


def _curves(history: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Tidy: one row a (step, metric)."""
    rows = [(e["step"], name, float(e[key])) for e in history for key, name in _LOGGED.items() if key in e]
    return pl.DataFrame(rows, schema={"step": pl.Int64, "metric": pl.String, "value": pl.Float64}, orient="row")


def _answers(asked: Sequence[Exercise], before: Answered, after: Answered) -> pl.DataFrame:
    rows = zip(asked, before.said, after.said, before.right, after.right, strict=True)
    schema = {"problem": pl.String, "level": pl.Int64, "gold": pl.String, "before": pl.String, "after": pl.String}
    schema |= {"right_before": pl.Boolean, "right_after": pl.Boolean}
    return pl.DataFrame([(one.id, one.level, one.answer, *rest) for one, *rest in rows], schema=schema, orient="row")


def _trl() -> Any:
    try:
        import trl
    except ModuleNotFoundError as error:
        do = "install turnout[trl]"
        raise MissingExtraError("grpo", expected="the package trl", received="none", do=do) from error
    return trl
