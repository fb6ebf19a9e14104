"""A stored run measured again, without its model: another kind, another scope, another domain map."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.auditing.config import AuditConfig
from turnout.auditing.reading import Domains
from turnout.auditing.result import AUDIT_FILE
from turnout.auditing.run import complete
from turnout.errors import RecipeError
from turnout.listener import Listener
from turnout.runs import RunFolder, Trace
from turnout.tasks.domains import load_map
from turnout.tasks.question import Question, TaskSet


@dataclass(frozen=True, eq=False)
class Remeasurement:
    """A complete run whose trace is measured again, with the settings and domains to use."""

    source: RunFolder
    config: AuditConfig
    domains: Domains
    model: dict[str, Any]
    tasks: dict[str, Any]

    @property
    def inputs(self) -> dict[str, object]:
        """What identifies the run: the trace, each sample's domain, the settings."""
        return {
            "verb": "audit",
            "trace_of": self.source.identity,
            "domains": {"map": self.tasks["domain_map"], "names": self.domains.names, "placed": self.domains.digest()},
            "config": self.config.describe(),
        }

    def run(self, folder: RunFolder, listener: Listener) -> None:
        """Measure, and complete the run in `folder`, which has no trace of its own."""
        complete(
            folder,
            self.source,
            self.domains,
            self.config,
            self.model,
            self.tasks,
            listener,
            trace_of=self.source.identity,
            timings={},
        )


def is_run(path: Path) -> bool:
    """Whether `path` is a run folder, finished or not."""
    return any((path / name).is_file() for name in ("manifest.json", "inputs.json"))


def remeasurement(run: Path | str, domains: str | Path | None, options: dict[str, Any]) -> Remeasurement:
    """Prepare to measure the trace of the complete run `run` again.

    Args:
        run: the run's folder.
        domains: a domain map (name or file) that assigns the stored subjects anew; None keeps their domains.
        options: fields of `AuditConfig`; those that are None or absent are as in the stored run.

    Raises:
        RecipeError: a setting that only the model could answer (answers, shots, token_budget, padding); a kind other
            than frequency, or `min_specificity`, where the imported trace has chosen experts only.
        RunError: no complete run, or one without a sound trace.
        TaskError: a subject that the domain map does not contain.
    """
    source = RunFolder.read(run)
    audit = _description(source)
    stored = AuditConfig.of(_object(audit, "config"))
    config = stored.replace(**options)
    for name, value in stored.captured().items():
        if config.captured()[name] != value:
            do = "audit the model again"
            raise RecipeError(name, expected=f"{value}, as the stored run", received=config.captured()[name], do=do)
    trace = source.trace()
    _check_scored(trace, config)
    tasks, placed = _placed(trace, _object(audit, "tasks"), domains)
    return Remeasurement(source, config, placed, _object(audit, "model"), tasks)


def _description(source: RunFolder) -> dict[str, object]:
    """Model, tasks and config of a run: audit.json, or the manifest of an import that was not audited."""
    if (source.path / AUDIT_FILE).is_file() or source.manifest["inputs"].get("verb") != "import":  # type: ignore[attr-defined]
        return source.read_json(AUDIT_FILE)
    return source.manifest


def _check_scored(trace: Trace, config: AuditConfig) -> None:
    """Raise RecipeError for a setting that needs router scores or weights, where the trace has none."""
    if trace.scored:
        return
    if config.kind != "frequency":
        expected = "frequency: the trace contains chosen experts only, neither router scores nor weights"
        raise RecipeError("kind", expected=expected, received=config.kind, do="give --kind frequency")
    if config.min_specificity is not None:
        expected = "none: without router scores there is no silhouette"
        raise RecipeError("min_specificity", expected=expected, received=config.min_specificity)


def _placed(trace: Trace, tasks: dict[str, Any], domains: str | Path | None) -> tuple[dict[str, Any], Domains]:
    """The description of the questions, and each sample's domain, under the map `domains`."""
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
