"""Columns of a trace: one row a sample, six columns for each MoE layer, seven with the router's inputs.

A layer that was imported from a list of chosen experts has two: `chosen` and `counts`.

Shape suffixes: S samples, T tokens of one sample, E routed experts of a layer, K experts chosen per token.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

FLOAT_COLUMNS = ("scores", "weights", "sum_scores", "sum_weights")
ID_COLUMNS = ("chosen", "counts")  # all that a layer has that is not scored
UNKNOWN_TOKEN = -1  # in the place of each token id, where a trace was imported without them
SAMPLE_COLUMNS = ("index", "id", "subject", "domain", "tokens", "answer", "choice_logprobs")
OPTIONAL_COLUMNS = ("answer", "choice_logprobs")


@dataclass(frozen=True)
class TraceLayer:
    """One MoE layer of a trace: the decoder layer's own number, routed experts E, chosen K, shared experts.

    `hidden` is the width H of the router's inputs, stored for nulls that ask what another router would do with them;
    0 where they are not stored. `scored` is False where only the chosen experts are known, no scores and no weights.
    """

    layer: int
    experts: int
    top_k: int
    shared: int = 0
    hidden: int = 0
    scored: bool = True

    def describe(self) -> dict[str, int]:
        """The numbers as a JSON object; `scored` only where it is False."""
        return {name: value for name, value in asdict(self).items() if name != "scored" or not value}


def smallest_unsigned(n_values: int) -> pa.DataType:
    """The smallest unsigned integer type for 0 … n_values − 1."""
    return next(t for bits, t in ((8, pa.uint8()), (16, pa.uint16()), (32, pa.uint32())) if n_values <= 1 << bits)


def layer_fields(layer: TraceLayer) -> list[pa.Field]:
    """The columns of one layer.

    chosen [T·K], one token after another; of the last token: scores [E], weights [K] (aligned with its chosen);
    summed over the sample's tokens: sum_scores [E], sum_weights [E], counts [E]; if stored, the router's inputs [H] at
    the last token, in half precision. A layer that is not scored has chosen and counts.
    """
    float_E = pa.list_(pa.float32(), layer.experts)
    types = {
        "chosen": pa.list_(smallest_unsigned(layer.experts)),
        "scores": float_E,
        "weights": pa.list_(pa.float32(), layer.top_k),
        "sum_scores": float_E,
        "sum_weights": float_E,
        "counts": pa.list_(pa.uint32(), layer.experts),
    }
    if layer.hidden:
        types["inputs"] = pa.list_(pa.float16(), layer.hidden)
    if not layer.scored:
        types = {name: types[name] for name in ID_COLUMNS}
    return [pa.field(f"{name}_{layer.layer}", kind) for name, kind in types.items()]


def trace_schema(layers: Sequence[TraceLayer]) -> pa.Schema:
    """The schema of every shard of a trace over `layers`."""
    sample = {
        "index": pa.int64(),
        "id": pa.string(),
        "subject": pa.string(),
        "domain": pa.string(),
        "tokens": pa.list_(pa.int32()),
        "answer": pa.int16(),
        "choice_logprobs": pa.list_(pa.float32()),
    }
    fields = [pa.field(name, sample[name]) for name in SAMPLE_COLUMNS]
    return pa.schema(fields + [field for layer in layers for field in layer_fields(layer)])
