"""Capture of prompts into a stored trace: batches through the model, shard by shard, each shard once."""

import time
from collections.abc import Iterator, Sequence

import pyarrow as pa

from turnout.auditing.config import AuditConfig
from turnout.auditing.evidence.rotated import store_routers
from turnout.auditing.prompts import Prompts
from turnout.errors import ModelError
from turnout.listener import Listener
from turnout.models.forward.batches import plan_batches
from turnout.models.forward.capture import BatchTrace, capture_batches
from turnout.models.forward.routing import RoutingError
from turnout.models.wrap.anatomy import MoE, MoELayer
from turnout.runs import RunFolder, Sample, TraceLayer, rows
from turnout.tasks.question import TaskSet

_BATCHES_A_SHARD = 8  # a kill loses at most these batches


def gather(
    moe: MoE,
    tasks: TaskSet,
    prompts: Prompts,
    run: RunFolder,
    config: AuditConfig,
    listener: Listener,
) -> dict[str, float | int]:
    """Write every shard of the run's trace that is missing or damaged.

    Which questions share a batch and a shard depends on the prompts' lengths and the token budget alone, so that a run
    that was killed resumes to the same bytes.

    Returns:
        `capture_seconds` and `capture_tokens` of the forward passes alone, over every process that worked on the run.

    Raises:
        ModelError: a router's scores are not finite: layer and question are named.
    """
    layers = [TraceLayer(x.layer, x.n_experts, x.top_k, x.n_shared, _width(x)) for x in moe.layers]
    store_routers(moe, run)
    lengths = prompts.lengths
    plan = plan_batches(lengths, config.token_budget)
    shards = [plan[i : i + _BATCHES_A_SHARD] for i in range(0, len(plan), _BATCHES_A_SHARD)]
    writer = run.trace_writer(layers, len(shards), warn=listener.note)
    finished, total = writer.done(), sum(lengths)
    done = sum(lengths[i] for shard in finished for batch in shards[shard] for i in batch)
    listener.progress("reading routers", done, total, "tokens")
    for number, batches in enumerate(shards):
        if number in finished:
            continue
        parts, seconds, started = [], 0.0, time.perf_counter()
        for batch, captured in zip(batches, _captured(moe, tasks, prompts, batches, config), strict=True):
            seconds += time.perf_counter() - started
            parts.append(rows(_samples(tasks, prompts, batch), captured, layers))
            done += sum(lengths[i] for i in batch)
            listener.progress("reading routers", done, total, "tokens")
            started = time.perf_counter()
        writer.write(number, pa.concat_tables(parts), seconds=seconds)
    tokens, seconds = writer.totals()
    return {"capture_seconds": seconds, "capture_tokens": tokens}


def _captured(
    moe: MoE, tasks: TaskSet, prompts: Prompts, batches: Sequence[Sequence[int]], config: AuditConfig
) -> Iterator[BatchTrace]:
    """The trace of each batch in turn; a router with NaN or infinite scores is named with the question."""
    ids = [[prompts.ids[i] for i in batch] for batch in batches]
    answers = prompts.letters
    letters = None if answers is None else [[answers[i] for i in batch] for batch in batches]
    traces = capture_batches(moe, ids, letters=letters, padding=config.padding, inputs=True)
    for batch in batches:
        try:
            yield next(traces)
        except RoutingError as error:
            if error.sample is None:
                raise
            where = f"layer {error.layer}, question {tasks.questions[batch[error.sample]].id}"
            raise ModelError(where, expected=error.expected, received=error.received) from error


def _samples(tasks: TaskSet, prompts: Prompts, batch: Sequence[int]) -> list[Sample]:
    questions = [(i, tasks.questions[i]) for i in batch]
    return [Sample(i, q.id, q.subject, q.domain, prompts.ids[i], q.answer) for i, q in questions]


def _width(layer: MoELayer) -> int:
    """Width of a router's inputs; 0 for a router without rows, whose inputs are not stored."""
    rows = layer.rows()
    return 0 if rows is None else rows[0].shape[1]
