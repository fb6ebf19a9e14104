"""Rows of a trace: built from a captured batch, and checked before they are written.

Shape suffixes: B samples of the batch, S samples of the shard, T tokens, E routed experts of a layer, K experts chosen
per token. Captured batches are duck-typed: this room imports neither torch nor models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from turnout.errors import RunError
from turnout.runs.layout import FLOAT_COLUMNS, OPTIONAL_COLUMNS, TraceLayer, layer_fields, trace_schema


@dataclass(frozen=True)
class Sample:
    """A row's columns beside the routing; `index` is the sample's position among all samples of the run."""

    index: int
    id: str
    subject: str
    domain: str
    tokens: Sequence[int]
    answer: int | None = None


def rows(samples: Sequence[Sample], batch: Any, layers: Sequence[TraceLayer]) -> pa.Table:
    """One row for each sample of `batch`, in the batch's order, with the columns of `layout.trace_schema(layers)`.

    `batch` is a `models.capture.BatchTrace` or has its attributes, tensors on the CPU (anything with `.numpy()`).
    Batches of one shard are joined with `pa.concat_tables`.
    """
    assert [len(s.tokens) for s in samples] == list(batch.lengths_B), "samples are not the batch's"
    assert [x.layer for x in batch.layers] == [x.layer for x in layers], "layers are not the trace's"
    lengths_B = np.asarray(batch.lengths_B, np.int64)
    pairs = zip(batch.layers, layers, strict=True)
    columns = [column for captured, layer in pairs for column in _layer_columns(captured, layer, lengths_B)]
    return assembled(samples, batch.choice_logprobs, columns, layers)


def assembled(
    samples: Sequence[Sample],
    choice_logprobs: Sequence[Sequence[float]] | None,
    columns: Sequence[pa.Array],
    layers: Sequence[TraceLayer],
) -> pa.Table:
    """One row a sample: its own columns, then `columns`, those of each of `layers` in turn."""
    own: list[Sequence[object]] = [
        [s.index for s in samples],
        [s.id for s in samples],
        [s.subject for s in samples],
        [s.domain for s in samples],
        [np.asarray(s.tokens, np.int32) for s in samples],
        [s.answer for s in samples],
        [None] * len(samples) if choice_logprobs is None else choice_logprobs,
    ]
    schema = trace_schema(layers)
    columns_of_sample = [pa.array(values, field.type) for values, field in zip(own, schema, strict=False)]
    return pa.Table.from_arrays([*columns_of_sample, *columns], schema=schema)


def _layer_columns(captured: Any, layer: TraceLayer, lengths_B: NDArray[np.int64]) -> list[pa.Array]:
    fields = {field.name.rsplit("_", 1)[0]: field.type for field in layer_fields(layer)}
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_B)]) * layer.top_k
    chosen = pa.array(captured.chosen_TK.numpy().reshape(-1), fields["chosen"].value_type)
    columns = [pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), chosen)]
    tensors = [
        ("scores", captured.scores_BE),
        ("weights", captured.weights_BK),
        ("sum_scores", captured.sum_scores_BE),
        ("sum_weights", captured.sum_weights_BE),
        ("counts", captured.counts_BE),
    ]
    if layer.hidden:
        tensors.append(("inputs", captured.inputs_BH))
    for name, tensor in tensors:
        values = tensor.numpy()
        assert values.shape == (len(lengths_B), fields[name].list_size), (name, values.shape)
        flat_values = pa.array(np.ascontiguousarray(values).reshape(-1)).cast(fields[name].value_type)
        columns.append(pa.FixedSizeListArray.from_arrays(flat_values, fields[name].list_size))
    return columns


def check_rows(rows: pa.Table, layers: Sequence[TraceLayer], shard: str) -> None:
    """Check `rows` against `layers`.

    Columns and types are the layers' own; each sample has tokens; for each layer a sample's chosen experts are
    tokens × K, each below E, and counted exactly in `counts`; scores and weights are finite.

    Raises:
        RunError: naming the shard, and the layer and sample where one is at fault.
    """
    _check_columns(rows, layers, shard)
    lengths_S = list_lengths(rows["tokens"])
    _refuse(lengths_S == 0, rows, shard, "at least one token", "none")
    for layer in layers:
        where = f"{shard}, layer {layer.layer}"
        _check_counts(rows, layer, lengths_S, where)
        for name in _floats(layer):
            values = fixed(rows[f"{name}_{layer.layer}"])
            _refuse(~np.isfinite(values).all(axis=1), rows, where, f"finite {name}", "NaN or infinity")


def _floats(layer: TraceLayer) -> tuple[str, ...]:
    if not layer.scored:
        return ()
    return (*FLOAT_COLUMNS, "inputs") if layer.hidden else FLOAT_COLUMNS


def list_lengths(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """The length of each row's list, [S]."""
    return pc.list_value_length(column).to_numpy().astype(np.int64)


def flat(column: pa.ChunkedArray) -> NDArray[np.generic]:
    """All rows' lists, one after another."""
    return pc.list_flatten(column).to_numpy()


def fixed(column: pa.ChunkedArray) -> NDArray[np.generic]:
    """A fixed-size list column as an array, [S, size]."""
    return flat(column).reshape(len(column), column.type.list_size)


def _check_columns(rows: pa.Table, layers: Sequence[TraceLayer], shard: str) -> None:
    schema = trace_schema(layers)
    if rows.column_names != schema.names:
        odd = sorted(set(rows.column_names) ^ set(schema.names)) or "another order"
        raise RunError(shard, expected=f"the columns of {len(layers)} layers", received=f"a difference in {odd}")
    for field in schema:
        column = rows[field.name]
        if column.type != field.type:
            raise RunError(f"{shard}, column {field.name}", expected=str(field.type), received=column.type)
        if column.null_count and field.name not in OPTIONAL_COLUMNS:
            raise RunError(f"{shard}, column {field.name}", expected="no nulls", received=column.null_count)


def _check_counts(rows: pa.Table, layer: TraceLayer, lengths_S: NDArray[np.int64], where: str) -> None:
    chosen_rows, counts_SE = rows[f"chosen_{layer.layer}"], fixed(rows[f"counts_{layer.layer}"]).astype(np.int64)
    wanted_S, listed_S = lengths_S * layer.top_k, list_lengths(chosen_rows)
    expected = f"tokens × {layer.top_k}"
    _refuse(listed_S != wanted_S, rows, where, f"{expected} chosen experts", listed_S)
    _refuse(counts_SE.sum(axis=1) != wanted_S, rows, where, f"counts that sum to {expected}", counts_SE.sum(axis=1))
    chosen, sample = flat(chosen_rows).astype(np.int64), np.repeat(np.arange(len(rows)), listed_S)
    outside_S = np.bincount(sample, weights=chosen >= layer.experts, minlength=len(rows)) > 0
    _refuse(outside_S, rows, where, f"experts below {layer.experts}", "a larger one")
    seen_SE = np.bincount(sample * layer.experts + chosen, minlength=counts_SE.size).reshape(counts_SE.shape)
    _refuse((seen_SE != counts_SE).any(axis=1), rows, where, "counts of the chosen experts", "other counts")


def _refuse(bad_S: NDArray[np.bool_], rows: pa.Table, where: str, expected: str, received: object) -> None:
    if not bad_S.any():
        return
    first = int(np.argmax(bad_S))
    value = received[first] if isinstance(received, np.ndarray) else received
    raise RunError(f"{where}, sample {rows['id'][first].as_py()}", expected=expected, received=value)
