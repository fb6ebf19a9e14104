"""lm-evaluation-harness, unmodified, on a live model, with its requests recorded."""

import hashlib
import json
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from itertools import islice
from typing import Any

from turnout.errors import ModelError, TaskError
from turnout.evaluating.config import EvaluateConfig
from turnout.evaluating.task_objects import TaskObjects
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.contract import evaluating


def describe_tasks(objects: TaskObjects, config: EvaluateConfig) -> dict[str, object]:
    """{task: version, configuration's and documents' SHA-256}: a task is the same if all of these are.

    Raises:
        TaskError: a task without documents.
    """
    return {name: _describe(name, task, config) for name, task in objects.tasks.items()}


def language_model(moe: MoE, config: EvaluateConfig) -> Any:
    """The harness's own `HFLM` around the model.

    Raises:
        ModelError: the model has no tokenizer, or no language-model head.
    """
    from lm_eval.models.huggingface import HFLM

    if moe.tokenizer is None:
        raise ModelError(moe.model_id, expected="a tokenizer beside the model", received="none", do="pass tokenizer=")
    if moe.model.get_output_embeddings() is None:
        raise ModelError(moe.model_id, expected="a language-model head", received=type(moe.model).__name__)
    with evaluating(moe.model), _level("lm_eval.models.huggingface", logging.ERROR):  # it calls eval(), and warns
        return HFLM(pretrained=moe.model, tokenizer=moe.tokenizer, batch_size=config.batch_size)


def run_harness(moe: MoE, lm: Any, objects: TaskObjects, config: EvaluateConfig) -> dict[str, Any]:
    """What `lm_eval.simple_evaluate` returns, its `samples` included; the model's modes are restored.

    Nothing of Turnout takes part: no hook, no experts implementation, no padding of its own.

    Raises:
        TaskError: the harness gave up; its own first line is in the message.
    """
    from lm_eval.evaluator import simple_evaluate

    with ExitStack() as stack:
        stack.enter_context(evaluating(moe.model))
        stack.enter_context(quiet())
        try:
            return simple_evaluate(
                model=lm,
                tasks=list(objects.objects),
                task_manager=objects.manager,
                limit=config.limit,
                num_fewshot=config.num_fewshot,
                batch_size=config.batch_size,
                apply_chat_template=config.apply_chat_template,
                log_samples=True,
            )
        except (ValueError, AssertionError, KeyError, TypeError, NotImplementedError, ImportError, OSError) as error:
            names = ", ".join(objects.domains)
            received = f"{type(error).__name__}: {error}"
            raise TaskError(
                f"tasks {names}", expected="tasks that lm-evaluation-harness can run", received=received
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep stdout for the caller; draw the harness's bars on a terminal only. Warnings are still logged."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        if not sys.stderr.isatty():
            stack.enter_context(redirect_stderr(StringIO()))
        yield


@contextmanager
def _level(name: str, level: int) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def _describe(name: str, task: Any, config: EvaluateConfig) -> dict[str, object]:
    documents = list(islice(task.eval_docs, config.limit))
    if not documents:
        raise TaskError(f"task {name}", expected="at least one document", received="none")
    shots = task.get_config("num_fewshot") if config.num_fewshot is None else config.num_fewshot
    return {
        "version": task.VERSION,
        "output_type": task.OUTPUT_TYPE,
        "config": _digest([_portable(task.dump_config())]),
        "documents": len(documents),
        "digest": _digest(documents),
        "examples": _digest(task.fewshot_docs()) if shots else None,
    }


def _portable(configuration: dict[str, Any]) -> dict[str, Any]:
    """A task's configuration without the path of its file."""
    metadata = configuration.get("metadata")
    if not isinstance(metadata, dict):
        return configuration
    return configuration | {"metadata": {k: v for k, v in metadata.items() if k != "config_source"}}


def _digest(items: Iterable[object]) -> str:
    sha = hashlib.sha256()
    for item in items:
        sha.update(json.dumps(item, default=str, sort_keys=True).encode() + b"\n")
    return sha.hexdigest()
