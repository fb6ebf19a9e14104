"""From a finished trace to a complete run: figures, tables of tokens and experts, budgets, audit.json, manifest."""

from collections.abc import Mapping
from typing import Any

from turnout.auditing.budgets import budget_sweep
from turnout.auditing.config import AuditConfig
from turnout.auditing.domains import Domains
from turnout.auditing.evidence.routers import read_routers
from turnout.auditing.measure import content, measure
from turnout.auditing.result import AUDIT_FILE
from turnout.auditing.storing import Note
from turnout.auditing.tables import tables
from turnout.auditing.tokens.atlas import atlas_tables
from turnout.auditing.tokens.binding import has_tokens
from turnout.auditing.tokens.classes import token_strings
from turnout.auditing.tokens.tables import token_tables
from turnout.models.wrap.anatomy import MoE
from turnout.progress import Progress
from turnout.runs import RunFolder, Trace


def complete(
    run: RunFolder,
    source: RunFolder,
    domains: Domains,
    config: AuditConfig,
    model: Mapping[str, Any],
    tasks: Mapping[str, Any],
    progress: Progress,
    note: Note,
    *,
    moe: MoE | None = None,
    **manifest: object,
) -> None:
    """Measure the trace of `source` and write all that an audit reports into `run`; the manifest last.

    Args:
        run: the folder to complete; `source` itself, or another one that measures its trace again.
        source: the run that holds the trace and the routers' rows.
        domains: each sample's domain.
        config: what to measure.
        model: what audit.json says of the model.
        tasks: what it says of the questions.
        progress: told how far it is.
        note: told of what must be computed again.
        moe: the model where it is at hand: its tokenizer names the tokens, and budgets are rerun.
        **manifest: what else the manifest holds.
    """
    trace = source.trace()
    found = measure(trace, domains, config, progress, read_routers(source))
    written = tables(found) | atlas_tables(trace, domains, progress)
    if has_tokens(trace):
        committees = {layer["layer"]: layer["committee"] for layer in found.layers}
        written |= token_tables(trace, domains, committees, _texts(trace, source, moe), progress)
    summary = content(found, dict(model), dict(tasks))
    if config.budgets:
        sweep = budget_sweep(
            trace, domains, config, config.budgets, moe, kept=found.kept, run=run, progress=progress, note=note
        )
        written |= sweep.tables()
        summary["budgets"] = sweep.to_dict()
    for name, table in written.items():
        run.write_table(name, table)
    run.write_json(AUDIT_FILE, summary)
    run.finish(model=dict(model), tasks=dict(tasks), config=config.describe(), **manifest)


def _texts(trace: Trace, source: RunFolder, moe: MoE | None) -> dict[int, str] | None:
    """What each token type reads: of the tokenizer, or as the run that is measured again has stored it."""
    if moe is not None and moe.tokenizer is not None:
        return token_strings(moe.tokenizer, sorted(set(trace.tokens()[0].tolist())))
    if source.complete and (source.path / "tables/tokens.parquet").is_file():
        stored = source.read_table("tokens").select("token", "text").drop_nulls()
        return dict(stored.iter_rows())
    return None
