"""Public functions that put rooms together: what the command line and scripts call alike."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout import embedded
from turnout.report import write_report

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from turnout.auditing import Audit
    from turnout.evaluating import Evaluation
    from turnout.models.anatomy import MoE


def audit(
    model: "MoE | PreTrainedModel | str | Path | None" = None,
    tasks: Any = None,
    out: str | Path | None = None,
    **options: Any,
) -> "Audit":
    """Ask a MoE questions and measure, layer by layer, which experts do the routing; with `out`, draw the page too.

    >>> audit = turnout.audit("path/to/checkpoint", tasks="mmlu-dev", out="run")
    >>> audit.layers[0]["committee"]

    Args:
        model: a checkpoint's folder or hub id, a MoE, a live transformers model (with `tokenizer=`), the folder of a
            complete run (measured again from its trace), or None for the embedded model.
        tasks: "mmlu", "mmlu-dev" (default), "worlds", a folder, a JSONL or Parquet file, or a TaskSet.
        out: the run's folder; None keeps nothing on disk.
        **options: see `turnout.auditing.audit`: domains, limit, kind, scope, presence, answers, shots, dtype, device, …

    Returns:
        The stored result: `.layers`, `.overall`, `.frame()`, `.to_dict()`.

    Raises:
        TurnoutError: one line that says what could not be.
    """
    from turnout.auditing import audit as run

    result = run(embedded.model_path() if model is None else model, tasks, out, **options)
    if out is not None and not (Path(out) / "report.html").exists():
        write_report(Path(out))
    return result


def evaluate(
    model: "MoE | PreTrainedModel | str | Path | None",
    tasks: str | Sequence[str],
    out: str | Path | None = None,
    *,
    include_path: str | Path | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 1,
    apply_chat_template: bool = False,
    **options: Any,
) -> "Evaluation":
    """Run lm-evaluation-harness on a MoE: its own results, and which experts read the prompts of each task.

    >>> evaluation = turnout.evaluate("path/to/checkpoint", "arc_easy,hellaswag", out="run")
    >>> evaluation.results["results"]["arc_easy"]["acc,none"], evaluation.audit.layers[0]["committee"]

    Args:
        model: a checkpoint's folder or hub id, a MoE, a live transformers model (with `tokenizer=`), or None for the
            embedded model.
        tasks: names of tasks, groups or tags, or task YAML files; one string may hold several, separated by commas.
        out: the run's folder, which `turnout audit`, `report` and `compare` can read; None keeps nothing on disk.
        include_path: a folder of task YAML files of your own.
        limit: at most so many documents of each task.
        num_fewshot: solved examples before each document; None as the task says.
        batch_size: requests in a forward of the harness.
        apply_chat_template: ask through the tokenizer's chat template.
        **options: tokenizer, progress, note; dtype, device, device_map, revision, trust_remote_code for a checkpoint;
            and fields of `turnout.auditing.AuditConfig`: kind, scope, presence, token_budget, …

    Returns:
        `.results` (the harness's own), `.audit` (the routing, as `turnout.audit` gives it), `.frame()`, `.to_dict()`.

    Raises:
        TurnoutError: one line that says what could not be.
    """
    from turnout.auditing import AuditConfig
    from turnout.auditing.prompted import audit_prompts
    from turnout.evaluating import EvaluateConfig
    from turnout.evaluating import evaluate as run

    given = {name: value for name, value in options.items() if value is not None}
    listening = {name: given.pop(name) for name in ("progress", "note") if name in given}
    outside = {"tokenizer", "dtype", "device", "device_map", "revision", "trust_remote_code"}
    loading = {name: given.pop(name) for name in outside & given.keys()}
    config = AuditConfig.of(**given)
    settings = EvaluateConfig(
        limit=limit, num_fewshot=num_fewshot, batch_size=batch_size, apply_chat_template=apply_chat_template
    )
    result = run(
        embedded.model_path() if model is None else model,
        tasks,
        functools.partial(audit_prompts, out=out, config=config, **listening),
        include_path=include_path,
        config=settings,
        **loading,
    )
    if out is not None and not (Path(out) / "report.html").exists():
        write_report(Path(out))
    return result
