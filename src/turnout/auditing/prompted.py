"""From a model and prompts to a complete run, whoever chose the prompts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from turnout.auditing.completing import complete
from turnout.auditing.config import AuditConfig
from turnout.auditing.domains import Domains
from turnout.auditing.gather import gather
from turnout.auditing.prompts import Prompts
from turnout.auditing.result import Audit
from turnout.auditing.storing import Note, log_note, stored
from turnout.models.wrap.anatomy import MoE
from turnout.progress import Progress, silent
from turnout.runs import RunFolder
from turnout.tasks.question import TaskSet


class Prompted(Protocol):
    """Questions, and the token ids of each as the model reads them."""

    @property
    def tasks(self) -> TaskSet:
        """The questions, in order."""
        ...

    @property
    def ids(self) -> list[list[int]]:
        """Their token ids, in the same order."""
        ...


def audit_prompts(
    moe: MoE,
    described: dict[str, object],
    inputs: Mapping[str, object],
    ask: Callable[[RunFolder], Prompted],
    *,
    out: str | Path | None = None,
    config: AuditConfig | None = None,
    progress: Progress = silent,
    note: Note = log_note,
) -> Audit:
    """Open the run of `inputs` in `out`; unless it is complete, read the prompts that `ask` gives it, and measure.

    Args:
        moe: the model.
        described: what `moe.describe()` said.
        inputs: what makes the run this run, beside `config`.
        ask: called with the run's folder, in which it may keep files of its own; gives the prompts.
        out: the run's folder; None: a temporary one that goes with the result.
        config: how to read and what to measure; `shots` and `answers` have no part in it.
        progress: told how far it is.
        note: told of shards that must be computed again and of a run that is complete already.
    """

    def read(run: RunFolder) -> tuple[TaskSet, Prompts]:
        asked = ask(run)
        return asked.tasks, Prompts(asked.ids, None)

    return record(moe, described, inputs, read, out, config or AuditConfig(), progress, note)


def record(
    moe: MoE,
    described: dict[str, object],
    inputs: Mapping[str, object],
    read: Callable[[RunFolder], tuple[TaskSet, Prompts]],
    out: str | Path | None,
    config: AuditConfig,
    progress: Progress,
    note: Note,
) -> Audit:
    """As `audit_prompts`; `read` gives the questions, and what the model reads of each."""

    def work(run: RunFolder) -> None:
        tasks, prompts = read(run)
        timings = gather(moe, tasks, prompts, run, config, progress, note)
        domains = Domains.of(run.trace().samples()["domain"].to_list(), tasks.domains)
        complete(run, run, domains, config, described, tasks.describe(), progress, note, moe=moe, timings=timings)

    return stored(out, {**inputs, "config": config.describe()}, work, note)
