"""`audit`: a model and questions, or a stored run, in; figures out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout.auditing.budgets import checked_budgets
from turnout.auditing.config import AuditConfig
from turnout.auditing.prompted import record
from turnout.auditing.prompts import encode_all
from turnout.auditing.remeasure import is_run, remeasure
from turnout.auditing.result import Audit
from turnout.auditing.storing import Note, log_note
from turnout.errors import RecipeError, TaskError
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.load import as_moe
from turnout.progress import Progress, silent
from turnout.tasks.load import NAMES, load_tasks
from turnout.tasks.question import Question, TaskSet

DEFAULT_TASKS = "mmlu-dev"
_LOADING = {"adapter", "dtype", "device", "device_map", "revision", "trust_remote_code"}


def audit(
    model: MoE | PreTrainedModel | str | Path,
    tasks: TaskSet | str | Path | None = None,
    out: str | Path | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    domains: str | Path | None = None,
    limit: int | None = None,
    config: AuditConfig | None = None,
    progress: Progress = silent,
    note: Note = log_note,
    **options: object,
) -> Audit:
    """Ask a MoE questions and measure, layer by layer, which of its experts do the routing (arXiv 2601.03425).

    A run that was killed is taken up where it stopped; a complete one is read, not computed again.

    Args:
        model: a MoE, a live transformers model, a checkpoint's folder or hub id; or the folder of a complete run,
            which is measured again from its trace.
        tasks: "mmlu", "mmlu-dev" (the default), "worlds", a folder, a JSONL or Parquet file, or a TaskSet.
        out: the run's folder; None: a temporary one that goes with the result.
        tokenizer: for a live model; a MoE brings its own.
        domains: "mmlu-9", "mmlu-4", "subject" or a map's file; None as the questions say, else mmlu-9.
        limit: at most so many questions of each subject.
        config: how to read and what to measure.
        progress: told how far it is.
        note: told, in one line each, of shards that must be computed again and of a run that is complete already.
        **options: fields of `AuditConfig`, over `config`: kind, scope, presence, answers, shots, …; and, for a
            checkpoint, what `turnout.load` takes: adapter, dtype, device ("auto" spreads the model), device_map,
            revision, trust_remote_code. None is the default of each.

    Raises:
        TurnoutError: one line that says what could not be: the model, the questions, the options or the folder.
    """
    given = {name: value for name, value in options.items() if value is not None}
    loading: dict[str, Any] = {name: given.pop(name) for name in _LOADING & given.keys()}
    _check_kinds(tasks, out, domains, limit)
    if isinstance(model, str | Path) and is_run(Path(model)):
        for name, value in {"tasks": tasks, "limit": limit, "tokenizer": tokenizer, **loading}.items():
            if value:
                raise RecipeError(name, expected="none: a stored run is measured without its model", received=value)
        measured = config.describe() if config else {}
        return remeasure(model, out, domains=domains, progress=progress, note=note, **(measured | given))
    config = (config or AuditConfig()).with_options(**given)
    task_set = tasks if isinstance(tasks, TaskSet) else load_tasks(tasks or DEFAULT_TASKS, domains=domains, limit=limit)
    dev = _dev(tasks or DEFAULT_TASKS, domains) if config.shots else None
    return _audit(as_moe(model, tokenizer, **loading), task_set, dev, out, config, progress, note)


def _check_kinds(tasks: object, out: object, domains: object, limit: object) -> None:
    """Raise one line for an argument of a kind that could only fail later, and less clearly."""
    if not isinstance(tasks, TaskSet | str | Path | None):
        expected = f"one of {', '.join(NAMES)}, a file, a folder or a TaskSet"
        raise TaskError("tasks", expected=expected, received=repr(tasks))
    if not isinstance(domains, str | Path | None):
        raise TaskError("domains", expected="a domain map's name or file", received=repr(domains))
    if not isinstance(out, str | Path | None):
        raise RecipeError("out", expected="a folder", received=repr(out))
    if not isinstance(limit, int | None):
        raise RecipeError("limit", expected="a whole number", received=repr(limit))


def _audit(
    moe: MoE,
    tasks: TaskSet,
    dev: Sequence[Question] | None,
    out: str | Path | None,
    config: AuditConfig,
    progress: Progress,
    note: Note,
) -> Audit:
    if config.budgets:
        checked_budgets((layer.n_experts for layer in moe.layers), config.budgets)
    prompts = encode_all(moe, tasks, config, dev)
    described = moe.describe()
    weights = {key: value for key, value in described.items() if key not in ("id", "revision")}  # not where it lies
    inputs = {
        "verb": "audit",
        "model": weights,
        "tasks": {"digest": tasks.digest, "questions": len(tasks.questions), "prompts": prompts.digest()},
    }
    return record(moe, described, inputs, lambda _: (tasks, prompts), out, config, progress, note)


def _dev(tasks: TaskSet | str | Path, domains: str | Path | None) -> Sequence[Question] | None:
    """Where a question's solved examples come from; None: from the questions themselves, never a question its own."""
    if isinstance(tasks, TaskSet):
        return None
    if tasks == DEFAULT_TASKS or Path(tasks).is_file():
        return load_tasks(tasks, domains=domains).questions  # all of them: a limit is on what is asked
    return load_tasks(tasks, domains=domains, split="train" if tasks == "worlds" else "dev").questions
