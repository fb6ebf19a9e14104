"""A stored run measured again, without its model: another reading, another scope, another domain map."""

from pathlib import Path
from typing import Any

from turnout.auditing.completing import complete
from turnout.auditing.config import AuditConfig
from turnout.auditing.domains import Domains
from turnout.auditing.result import AUDIT_FILE, Audit
from turnout.auditing.storing import Note, log_note, stored
from turnout.errors import RecipeError
from turnout.progress import Progress, silent
from turnout.runs import RunFolder, Trace
from turnout.tasks.domains import load_map
from turnout.tasks.question import Question, TaskSet


def is_run(path: Path) -> bool:
    """Whether `path` is a run's folder, finished or not."""
    return any((path / name).is_file() for name in ("manifest.json", "inputs.json"))


def remeasure(
    run: Path | str,
    out: Path | str | None = None,
    *,
    domains: str | Path | None = None,
    progress: Progress = silent,
    note: Note = log_note,
    **options: object,
) -> Audit:
    """Measure the trace of a complete run again.

    Args:
        run: the run's folder.
        out: a folder for the new result, which holds no trace of its own; None: nothing stays on disk.
        domains: a domain map (name or file) by which the stored subjects are placed anew; None keeps their domains.
        progress: told of each layer.
        note: told in one line when `out` is complete already.
        **options: fields of `AuditConfig`; those left out are as in the stored run.

    Raises:
        RecipeError: an option that only the model could answer: `answers`, `shots`, `token_budget`, `padding`; a kind
            but frequency, or `min_specificity`, where the trace was imported with chosen experts only.
        RunError: no complete run, or one without a sound trace.
        TaskError: a subject that the domain map does not place.
    """
    source = RunFolder.read(run)
    audit = _about(source)
    before = AuditConfig.of(**_object(audit, "config"))
    config = before.with_options(**options)
    for name, value in before.captured().items():
        if config.captured()[name] != value:
            do = "audit the model again"
            raise RecipeError(name, expected=f"{value}, as the stored run", received=config.captured()[name], do=do)
    trace = source.trace()
    _refuse_unscored(trace, config)
    tasks, placed = _placed(trace, _object(audit, "tasks"), domains)
    inputs = {
        "verb": "audit",
        "trace_of": source.identity,
        "domains": {"map": tasks["domain_map"], "names": placed.names, "placed": placed.digest()},
        "config": config.describe(),
    }

    def work(folder: RunFolder) -> None:
        model = _object(audit, "model")
        complete(folder, source, placed, config, model, tasks, progress, note, trace_of=source.identity, timings={})

    return stored(out, inputs, work, note)


def _about(source: RunFolder) -> dict[str, object]:
    """What a run says of its model, questions and config; an imported one says it in its manifest."""
    if (source.path / AUDIT_FILE).is_file() or source.manifest["inputs"].get("verb") != "import":  # type: ignore[attr-defined]
        return source.read_json(AUDIT_FILE)
    return source.manifest


def _refuse_unscored(trace: Trace, config: AuditConfig) -> None:
    """Raise RecipeError for what needs router scores or weights, where the trace has none."""
    if trace.scored:
        return
    if config.kind != "frequency":
        expected = "frequency: the trace holds chosen experts only, neither router scores nor weights"
        raise RecipeError("kind", expected=expected, received=config.kind, do="give --kind frequency")
    if config.min_specificity is not None:
        expected = "none: without router scores there is no silhouette"
        raise RecipeError("min_specificity", expected=expected, received=config.min_specificity)


def _placed(trace: Trace, tasks: dict[str, Any], domains: str | Path | None) -> tuple[dict[str, Any], Domains]:
    """What audit.json says of the questions, and each sample's domain, under the map `domains`."""
    samples = trace.samples()
    if domains is None:
        return tasks, Domains.of(samples["domain"].to_list(), list(tasks["domains"]))
    chosen = load_map(domains)
    names = [chosen.place(subject, f"question {name}") for name, subject in samples.select("id", "subject").rows()]
    questions = (
        Question(name, subject, domain, "")
        for (name, subject), domain in zip(samples.select("id", "subject").rows(), names, strict=True)
    )
    described = TaskSet.of(tasks["name"], questions, domain_map=chosen.name, order=chosen.domains).describe()
    new = {key: described[key] for key in ("domain_map", "domains", "subjects", "one_sample_domains")}
    return tasks | new, Domains.of(names, list(new["domains"]))  # type: ignore[call-overload]


def _object(audit: dict[str, object], key: str) -> dict[str, Any]:
    value = audit[key]
    assert isinstance(value, dict)
    return value
