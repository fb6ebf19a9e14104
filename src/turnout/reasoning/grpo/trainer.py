"""TRL's GRPOTrainer with the reward of right final answers; a stopped run resumes exactly."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from datasets import Dataset
from tokenizers.processors import TemplateProcessing
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from turnout.errors import MissingExtraError, ModelError
from turnout.listener import Listener
from turnout.models.wrap.devices import device_of
from turnout.reasoning.grpo.config import GrpoConfig
from turnout.tasks.exercises import Exercise, parse_answer
from turnout.tasks.exercises.exercise import Kind
from turnout.tasks.prompts import encode_text
from turnout.training.checkpoints import MarkComplete, StrictResume, newest_complete


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Exercise],
    config: GrpoConfig,
    checkpoints: Path,
    listener: Listener,
) -> list[dict[str, Any]]:
    """Train `model` in place, from the newest whole checkpoint if there is one.

    Args:
        model: a causal language model in float32.
        tokenizer: its tokenizer.
        problems: the training problems.
        config: the settings.
        checkpoints: the folder of checkpoints.
        listener: receives the number of steps done.

    Returns:
        The Trainer's log history.

    Raises:
        MissingExtraError: TRL is not installed.
    """
    trl = require_trl()
    trainer_class = type("_Trainer", (StrictResume, OrderByPass, trl.GRPOTrainer), {})
    trainer = trainer_class(
        model=model,
        reward_funcs=reward,
        args=_arguments(trl.GRPOConfig, config, checkpoints, on_cpu=device_of(model) == "cpu"),
        train_dataset=Dataset.from_list([_row(one) for one in problems]),
        processing_class=without_end_token(tokenizer),
        callbacks=[MarkComplete(), _ReportSteps(config.steps, listener)],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = newest_complete(checkpoints) if checkpoints.exists() else None
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)) if checkpoint else None
    if state is not None and state.global_step >= config.steps:  # the Trainer would do one more step
        trainer._load_from_checkpoint(str(checkpoint))
        return list(state.log_history)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return list(trainer.state.log_history)


def reward(*, completions: Sequence[str], answer: Sequence[str], kind: Sequence[Kind], **_: object) -> list[float]:
    """TRL's reward function: 1 for a completion whose final answer is the row's `answer`, else 0.

    Each row keeps its own kind, which decides how its answer is parsed: two rows may have one prompt.
    """
    rows = zip(completions, answer, kind, strict=True)
    return [float(parse_answer(text, of) == gold) for text, gold, of in rows]


def without_end_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, or a copy that appends nothing: TRL encodes prompts itself, and would continue after an end token.

    Raises:
        ModelError: the tokenizer appends a token in a way that cannot be turned off.
    """
    if tokenizer("a")["input_ids"] == encode_text(tokenizer, "a"):
        return tokenizer
    copy = deepcopy(tokenizer)
    ids = encode_text(tokenizer, "a")
    prefix = ids[: len(ids) - len(tokenizer("a", add_special_tokens=False)["input_ids"])]
    names = list(zip(tokenizer.convert_ids_to_tokens(prefix), prefix, strict=True))
    if copy.is_fast:
        template = " ".join([*(name for name, _ in names), "$A"])
        copy.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=names)
    if copy("a")["input_ids"] != ids:
        received = tokenizer.convert_ids_to_tokens(tokenizer("a")["input_ids"])
        raise ModelError("tokenizer", expected="one that appends nothing to a prompt", received=received)
    return copy


def _row(problem: Exercise) -> dict[str, str]:
    return {"prompt": problem.prompt, "answer": problem.answer, "kind": problem.kind}


def require_trl() -> Any:
    """The package trl.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import trl
    except ModuleNotFoundError as error:
        do = "install turnout[trl]"
        raise MissingExtraError("grpo", expected="the package trl", received="none", do=do) from error
    return trl


class OrderByPass:
    """First among the bases of a GRPOTrainer: the order of problems depends on seed and pass alone."""

    args: Any

    def _get_train_sampler(self, dataset: Any = None) -> "_ByPass":
        return _ByPass(super()._get_train_sampler(dataset), self.args.seed)  # type: ignore[misc]  # TRL's


class _ByPass(Sampler[int]):
    """A shuffling sampler that is seeded anew for each pass.

    TRL's sampler draws all passes from one generator, which no checkpoint contains: a run that resumes in its third
    pass would repeat the order of the first. The first pass is the sampler's own.
    """

    def __init__(self, sampler: Any, seed: int) -> None:
        self._sampler, self._seed, self._pass = sampler, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Receive the number of the pass; the Trainer calls it before each, also when it resumes."""
        self._pass = epoch

    def __iter__(self) -> Iterator[int]:
        self._sampler.generator.manual_seed(self._seed + self._pass)
        yield from self._sampler

    def __len__(self) -> int:
        return len(self._sampler)


class _ReportSteps(TrainerCallback):  # type: ignore[misc]  # Any: transformers ships no types
    """Passes the number of steps done to the listener."""

    def __init__(self, steps: int, listener: Listener) -> None:
        self._steps, self._listener = steps, listener

    def on_step_end(self, _args: Any, state: TrainerState, _control: Any, **_: Any) -> None:
        self._listener.progress("training", state.global_step, self._steps, "steps")


def _arguments(kind: Any, config: GrpoConfig, checkpoints: Path, on_cpu: bool) -> Any:
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
        max_completion_length=config.max_new_tokens,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=on_cpu,
        seed=config.seed,
        logging_steps=1,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
