"""Run lm-evaluation-harness on a MoE, and keep the prompts that it used, for an audit of the same prompts.

The harness runs first and alone. Its documents' prompts are then read once more, each once, by the same capture as an
audit's. Its cost is measured in docs/guides/evaluate.md. It needs no guess about which row of which padded batch of
the harness belongs to which document.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from turnout.errors import TaskError
from turnout.evaluating.config import EvaluateConfig
from turnout.evaluating.harness import describe_tasks, language_model, quiet, run_harness
from turnout.evaluating.prompts import Prompt, prompts
from turnout.evaluating.result import DOCUMENTS, EVAL_FILE
from turnout.evaluating.task_objects import TaskObjects, find_tasks
from turnout.models.wrap.anatomy import MoE
from turnout.runs import RunFolder
from turnout.tasks.question import Question, TaskSet

_PROMPTS = "prompts"
_STORED = (EVAL_FILE, f"tables/{_PROMPTS}.parquet", f"tables/{DOCUMENTS}.parquet")  # the harness's whole answer
_PROMPT_COLUMNS: dict[str, Any] = {
    "id": pl.String,
    "task": pl.String,
    "document": pl.Int64,
    "text": pl.String,
    "tokens": pl.List(pl.Int32),
}
_DOCUMENT_COLUMNS: dict[str, Any] = {
    "task": pl.String,
    "document": pl.Int64,
    "filter": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
}


@dataclass(frozen=True)
class Asked:
    """Prompts of the harness: one question a prompt, and its token ids."""

    tasks: TaskSet
    ids: list[list[int]]


@dataclass(frozen=True)
class Requested:
    """The tasks that the harness is to run.

    Attributes:
        name: the names as requested, separated by commas.
        objects: the harness's task objects and their domains.
        described: the tasks' own configurations as JSON, for the run's inputs.
    """

    name: str
    objects: TaskObjects
    described: dict[str, Any]


def request(tasks: str | Sequence[str], include_path: str | Path | None, config: EvaluateConfig) -> Requested:
    """Find tasks of lm-evaluation-harness.

    A prompt's subject in the trace is its task; its domain is the name under which the task was requested, or, for a
    group or tag requested alone, the member of the group that the task belongs to.

    Raises:
        TaskError: a task that does not exist, or whose data cannot be read.
    """
    names = _names(tasks)
    with quiet():
        objects = find_tasks(names, None if include_path is None else Path(include_path))
        return Requested(",".join(names), objects, describe_tasks(objects, config))


def run(moe: MoE, requested: Requested, config: EvaluateConfig, folder: RunFolder) -> Asked:
    """Run the harness, unless `folder` has its results already; store them, and return the prompts that it used.

    Args:
        moe: the model.
        requested: the tasks.
        config: the harness's settings.
        folder: an open, unfinished run.

    Raises:
        TaskError: an empty prompt.
    """
    if not all((folder.path / name).exists() for name in _STORED):
        lm = language_model(moe, config)
        results = run_harness(moe, lm, requested.objects, config)
        samples = results.pop("samples")
        with quiet():
            _write_prompts(folder, prompts(lm, samples))
        folder.write_table(DOCUMENTS, _documents(samples).to_arrow())
        folder.write_json(EVAL_FILE, _as_json(results))
    stored, domain_of = folder.read_table(_PROMPTS), requested.objects.domain_of
    questions = [Question(i, task, domain_of[task], text) for i, task, text in stored["id", "task", "text"].rows()]
    tasks = TaskSet.of(requested.name, questions, domain_map="lm-eval", order=requested.objects.domains)
    return Asked(tasks, stored["tokens"].to_list())


def _names(tasks: object) -> list[str]:
    """The requested names, each once."""
    parts = [tasks] if isinstance(tasks, str) else tasks
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise TaskError("tasks", expected="names of tasks, separated by commas or in a list", received=repr(tasks))
    return list(dict.fromkeys(name.strip() for part in parts for name in part.split(",") if name.strip()))


def _write_prompts(run: RunFolder, prompts_read: Sequence[Prompt]) -> None:
    for prompt in prompts_read:
        if not prompt.tokens:
            raise TaskError(prompt.id, expected="a prompt of at least one token", received="an empty one")
    rows = [(p.id, p.task, p.document, p.text, p.tokens) for p in prompts_read]
    run.write_table(_PROMPTS, pl.DataFrame(rows, schema=_PROMPT_COLUMNS, orient="row").to_arrow())


def _documents(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> pl.DataFrame:
    """One row a document, filter and metric that is a number."""
    rows = [
        (task, int(sample["doc_id"]), str(sample["filter"]), metric, float(sample[metric]))
        for task, logged in samples.items()
        for sample in logged
        for metric in sample["metrics"]
        if isinstance(sample[metric], int | float)
    ]
    return pl.DataFrame(rows, schema=_DOCUMENT_COLUMNS, orient="row")


def _as_json(results: Mapping[str, Any]) -> Any:
    """`results` as the harness's command line writes them; NaN and infinity, which JSON has not, become null."""
    from lm_eval.utils import handle_non_serializable

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(of) for key, of in value.items()}
        if isinstance(value, list):
            return [finite(of) for of in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return finite(json.loads(json.dumps(results, default=handle_non_serializable)))
