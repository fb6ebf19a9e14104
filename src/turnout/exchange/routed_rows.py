"""Routed-expert ids, checked, as rows of a trace that holds chosen experts only.

Shape suffixes: S samples, T tokens of one sample, L MoE layers, E routed experts, K experts chosen per token.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.errors import RunError
from turnout.runs.layout import TraceLayer, layer_fields
from turnout.runs.rows import Sample, assembled


def check_experts(experts: NDArray[Any], where: str, layers: Sequence[TraceLayer]) -> None:
    """Hold one sample's [T, L, K] against `layers`, which it has in that order.

    Raises:
        RunError: no integers, another shape, no token, an id that is not below E, an expert twice for one token.
    """
    wanted = (len(layers), layers[0].top_k)
    if experts.dtype.kind not in "iu":
        raise RunError(where, expected="integers", received=experts.dtype)
    if experts.ndim != 3 or experts.shape[1:] != wanted or not len(experts):
        expected = f"[tokens, {wanted[0]} layers, {wanted[1]} experts], a token at least"
        raise RunError(where, expected=expected, received=list(experts.shape))
    n_experts = layers[0].experts
    outside = (experts < 0) | (experts >= n_experts)
    if outside.any():
        t, place, k = np.argwhere(outside)[0]
        at = f"{where}, token {t}, layer {layers[place].layer}"
        raise RunError(at, expected=f"experts from 0 to {n_experts - 1}", received=experts[t, place, k])
    ordered = np.sort(experts, axis=2)
    twice = ordered[:, :, 1:] == ordered[:, :, :-1]
    if twice.any():
        t, place, _ = np.argwhere(twice)[0]
        at = f"{where}, token {t}, layer {layers[place].layer}"
        do = "a dense layer's rows mean nothing: name the MoE layers with --layers"
        raise RunError(at, expected="each expert once", received=experts[t, place].tolist(), do=do)


def routed_rows(samples: Sequence[Sample], experts: Sequence[NDArray[Any]], layers: Sequence[TraceLayer]) -> pa.Table:
    """One row a sample, with the columns of `layout.trace_schema(layers)`; none of the layers is scored."""
    columns = list[pa.Array]()
    for place, layer in enumerate(layers):
        chosen, counts = layer_fields(layer)
        own = [sample[:, place].reshape(-1) for sample in experts]
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in own])])
        flat = pa.array(np.concatenate(own)).cast(chosen.type.value_type)
        counted = np.concatenate([np.bincount(ids.astype(np.int64), minlength=layer.experts) for ids in own])
        columns.append(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat))
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(counted).cast(pa.uint32()), counts.type.list_size))
    return assembled(samples, None, columns, layers)
