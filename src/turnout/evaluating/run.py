"""`evaluate`: a model and lm-evaluation-harness's tasks in; the harness's results and a trace by task out.

The harness runs first and alone. Its documents' prompts are then read once more, each once, by the same capture as an
audit's. Its cost is measured in docs/guides/evaluate.md. It needs no guess about which row of which padded batch of
the harness belongs to which document.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout.errors import TaskError
from turnout.evaluating.config import EvaluateConfig
from turnout.evaluating.finding import Found, find
from turnout.evaluating.harness import describe_tasks, language_model, quiet, run_harness
from turnout.evaluating.prompts import Prompt, prompts
from turnout.evaluating.result import DOCUMENTS, EVAL_FILE, Evaluation
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.load import as_moe
from turnout.runs import RunFolder
from turnout.tasks.question import Question, TaskSet

_PROMPTS = "prompts"
_KEPT = (EVAL_FILE, f"tables/{_PROMPTS}.parquet", f"tables/{DOCUMENTS}.parquet")  # the harness's whole answer
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
    """What the harness had the model read: one question a prompt, and its token ids."""

    tasks: TaskSet
    ids: list[list[int]]


class Recorder(Protocol):
    """Records what a model's routers do with prompts, in a run's folder of its choice; `turnout.api` hands one in."""

    def __call__(
        self, moe: MoE, described: dict[str, object], inputs: Mapping[str, object], ask: Callable[[RunFolder], Asked]
    ) -> Any:
        """Open the run of `inputs`; unless it is complete, call `ask` with it, record what was asked, and finish it.

        Returns:
            Something with the run's folder as `.path`.
        """
        ...


def evaluate(
    model: MoE | PreTrainedModel | str | Path,
    tasks: str | Sequence[str],
    record: Recorder,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    include_path: str | Path | None = None,
    config: EvaluateConfig | None = None,
    **loading: Any,
) -> Evaluation:
    """Run tasks of lm-evaluation-harness on a MoE and record which experts read their prompts.

    Each prompt is one sample of the trace: its subject is its task; its domain what the task was asked for under, or,
    for a group or tag that was asked for alone, the group's member that it belongs to.

    Args:
        model: a MoE, a live transformers model, or a checkpoint's folder or hub id.
        tasks: names of tasks, groups or tags, or task YAML files; in one string, separated by commas.
        record: what makes the trace and its figures.
        tokenizer: for a live model; a MoE brings its own.
        include_path: a folder of task YAML files of your own, which come before the harness's.
        config: the harness's settings.
        **loading: what `turnout.load` takes, for a checkpoint.

    Raises:
        TurnoutError: one line that says what could not be: the model, a task, its data, the run's folder.
    """
    config = config or EvaluateConfig()
    names = _names(tasks)
    moe = as_moe(model, tokenizer, **loading)
    described = moe.describe()
    with quiet():
        found = find(names, None if include_path is None else Path(include_path))
        described_tasks = describe_tasks(found, config)
    inputs = {
        "verb": "eval",
        "model": {key: value for key, value in described.items() if key not in ("id", "revision")},
        "tasks": described_tasks,
        "domains": found.domain_of,
        "settings": config.describe(),
    }
    audit = record(moe, described, inputs, lambda run: _ask(moe, found, config, ",".join(names), run))
    stored = RunFolder.read(audit.path)
    return Evaluation(stored.read_json(EVAL_FILE), audit, audit.path)


def _names(tasks: object) -> list[str]:
    """The tasks asked for, each once."""
    parts = [tasks] if isinstance(tasks, str) else tasks
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise TaskError("tasks", expected="names of tasks, separated by commas or in a list", received=repr(tasks))
    return list(dict.fromkeys(name.strip() for part in parts for name in part.split(",") if name.strip()))


def _ask(moe: MoE, found: Found, config: EvaluateConfig, name: str, run: RunFolder) -> Asked:
    """Run the harness, unless this run holds its results already, and say what it asked."""
    if not all((run.path / name).exists() for name in _KEPT):
        lm = language_model(moe, config)
        results = run_harness(moe, lm, found, config)
        samples = results.pop("samples")
        with quiet():
            _write_prompts(run, prompts(lm, samples))
        run.write_table(DOCUMENTS, _documents(samples).to_arrow())
        run.write_json(EVAL_FILE, _as_json(results))
    stored = run.read_table(_PROMPTS)
    questions = [
        Question(i, task, found.domain_of[task], text) for i, task, text in stored["id", "task", "text"].rows()
    ]
    tasks = TaskSet.of(name, questions, domain_map="lm-eval", order=found.domains)
    return Asked(tasks, stored["tokens"].to_list())


def _write_prompts(run: RunFolder, asked: Sequence[Prompt]) -> None:
    for prompt in asked:
        if not prompt.tokens:
            raise TaskError(prompt.id, expected="a prompt of at least one token", received="an empty one")
    rows = [(p.id, p.task, p.document, p.text, p.tokens) for p in asked]
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
