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
    """One row a sample: what is said of it, then `columns`, those of each of `layers` in turn."""
    said: list[Sequence[object]] = [
        [s.index for s in samples],
        [s.id for s in samples],
        [s.subject for s in samples],
        [s.domain for s in samples],
        [np.asarray(s.tokens, np.int32) for s in samples],
        [s.answer for s in samples],
        [None] * len(samples) if choice_logprobs is None else choice_logprobs,
    ]
    schema = trace_schema(layers)
    own = [pa.array(values, field.type) for values, field in zip(said, schema, strict=False)]
    return pa.Table.from_arrays([*own, *columns], schema=schema)


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
