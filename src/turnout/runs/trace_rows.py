"""From what one forward pass captured to a trace's rows. Duck-typed: this room imports neither torch nor models.

Shape suffixes: B samples of the batch, T tokens (the batch's real ones, one sample after another), E, K as ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.runs.layout import TraceLayer, layer_fields, trace_schema


@dataclass(frozen=True)
class Sample:
    """What a row says of its sample beside the routing; `index` is its place among all samples of the run."""

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
    logprobs = [None] * len(samples) if batch.choice_logprobs is None else list(batch.choice_logprobs)
    columns: list[object] = [
        [s.index for s in samples],
        [s.id for s in samples],
        [s.subject for s in samples],
        [s.domain for s in samples],
        [np.asarray(s.tokens, np.int32) for s in samples],
        [s.answer for s in samples],
        logprobs,
    ]
    for captured, layer in zip(batch.layers, layers, strict=True):
        columns += _layer_columns(captured, layer, np.asarray(batch.lengths_B, np.int64))
    schema = trace_schema(layers)
    arrays = [c if isinstance(c, pa.Array) else pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


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
