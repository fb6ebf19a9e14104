"""An audit's work in its run folder: capture the routing, or read it from a stored trace, measure, write the files."""

from collections.abc import Mapping
from typing import Any

from turnout.auditing.budgets import budget_sweep
from turnout.auditing.config import AuditConfig
from turnout.auditing.evidence.rotated import read_routers
from turnout.auditing.figures import content, measure
from turnout.auditing.gather import gather
from turnout.auditing.prompts import Prompts
from turnout.auditing.reading import Domains
from turnout.auditing.result import AUDIT_FILE
from turnout.auditing.tables import tables
from turnout.auditing.tokens.atlas import atlas_tables
from turnout.auditing.tokens.binding import has_tokens
from turnout.auditing.tokens.classes import token_strings
from turnout.auditing.tokens.tables import token_tables
from turnout.listener import Listener
from turnout.models.wrap.anatomy import MoE
from turnout.runs import RunFolder, Trace
from turnout.tasks.question import TaskSet

KEEP = ("trace/part-*",)
"""Files of an unfinished audit that are worth resuming from."""


def run(
    moe: MoE,
    tasks: TaskSet,
    prompts: Prompts,
    config: AuditConfig,
    folder: RunFolder,
    listener: Listener,
    *,
    model: Mapping[str, Any],
) -> None:
    """Capture the routing of `prompts` shard by shard, measure it, and complete the run in `folder`.

    Args:
        moe: the model.
        tasks: the questions.
        prompts: their token ids, and those of their answer letters if answers are read.
        config: what to measure.
        folder: an open, unfinished run; shards that it has already are kept.
        listener: receives progress and notes.
        model: what `moe.describe()` returned, for audit.json and the manifest.

    Raises:
        ModelError: a router's scores are not finite; layer and question are named.
        RecipeError: `min_specificity` leaves no domain.
    """
    timings = gather(moe, tasks, prompts, folder, config, listener)
    domains = Domains.of(folder.trace().samples()["domain"].to_list(), tasks.domains)
    complete(folder, folder, domains, config, model, tasks.describe(), listener, moe=moe, timings=timings)


def complete(
    folder: RunFolder,
    source: RunFolder,
    domains: Domains,
    config: AuditConfig,
    model: Mapping[str, Any],
    tasks: Mapping[str, Any],
    listener: Listener,
    *,
    moe: MoE | None = None,
    **manifest: object,
) -> None:
    """Measure the trace of `source` and write all that an audit reports into `folder`, the manifest last.

    Args:
        folder: the run to complete; `source` itself, or another one that measures its trace again.
        source: the run with the trace and the routers' rows.
        domains: each sample's domain.
        config: what to measure.
        model: the description of the model in audit.json.
        tasks: the description of the questions there.
        listener: receives progress and notes.
        moe: the model, if it is loaded: its tokenizer names the tokens, and budgets are run with it.
        **manifest: further entries of the manifest.
    """
    trace = source.trace()
    measured = measure(trace, domains, config, listener, read_routers(source))
    written = tables(measured) | atlas_tables(trace, domains, listener)
    if has_tokens(trace):
        committees = {layer["layer"]: layer["committee"] for layer in measured.layers}
        written |= token_tables(trace, domains, committees, _texts(trace, source, moe), listener)
    summary = content(measured, dict(model), dict(tasks))
    if config.budgets:
        sweep = budget_sweep(
            trace, domains, config, config.budgets, moe, kept=measured.kept, run=folder, listener=listener
        )
        written |= sweep.tables()
        summary["budgets"] = sweep.to_dict()
    for name, table in written.items():
        folder.write_table(name, table)
    folder.write_json(AUDIT_FILE, summary)
    folder.finish(model=dict(model), tasks=dict(tasks), config=config.describe(), **manifest)


def _texts(trace: Trace, source: RunFolder, moe: MoE | None) -> dict[int, str] | None:
    """Token id → its text, from the tokenizer or as the measured run stores it; None where neither is at hand."""
    if moe is not None and moe.tokenizer is not None:
        return token_strings(moe.tokenizer, sorted(set(trace.tokens()[0].tolist())))
    if source.complete and (source.path / "tables/tokens.parquet").is_file():
        stored = source.read_table("tokens").select("token", "text").drop_nulls()
        return dict(stored.iter_rows())
    return None
