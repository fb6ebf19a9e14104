"""Tidy tables of an audit. The same bytes for the same inputs: no times, no paths, rows in a fixed order.

Shapes: S samples, E routed experts of a layer, D domains.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa
import torch
from torch import Tensor

from turnout import ops
from turnout.auditing.config import KINDS
from turnout.auditing.figures import Measured
from turnout.auditing.reading import LayerReading

Columns = dict[str, Sequence[object]]


def tables(measured: Measured) -> dict[str, pa.Table]:
    """Every table by name, for NAME.parquet in the run's tables/.

    contribution: layer, domain, expert, gate, frequency, weight, released; all domains. A kind is null if the trace
        lacks its values. low, high: the 95 % interval of the audit's own kind, in the kept domains.
    ranks: layer, domain, expert, rank (1…K, K+1); the kept domains, as in the tables below.
    experts: layer, expert, mean_rank, rank_variance, presence, candidate, member, share (null if there is no
        contribution), candidate_stability, member_stability (shares of resamples).
    jaccard: layer, domain_a, domain_b, jaccard; every pair in both orders, and the diagonal.
    lorenz: layer, position (0…E), share; no rows for a layer without contribution.
    silhouette: layer, index, silhouette; no rows for one domain.
    samples: index, id, subject, domain, n_tokens, answer, predicted, correct.
    """
    by_layer: dict[str, tuple[Callable[[Measured, int], Columns], pa.Schema]] = {
        "contribution": (_contribution, _CONTRIBUTION),
        "ranks": (_ranks, _RANKS),
        "experts": (_experts, _EXPERTS),
        "jaccard": (_jaccard, _JACCARD),
        "lorenz": (_lorenz, _LORENZ),
        "silhouette": (_silhouette, _SILHOUETTE),
    }
    made = {name: _stack(measured, rows, schema) for name, (rows, schema) in by_layer.items()}
    columns = ["index", "id", "subject", "domain", "n_tokens", "answer", "predicted", "correct"]
    return made | {"samples": measured.samples.select(columns).to_arrow().cast(_SAMPLES)}


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema(list(types.items()))


_INT, _FLOAT, _TEXT, _BOOL = pa.int32(), pa.float64(), pa.string(), pa.bool_()
_CONTRIBUTION = _schema(layer=_INT, domain=_TEXT, expert=_INT, **dict.fromkeys((*KINDS, "low", "high"), _FLOAT))
_RANKS = _schema(layer=_INT, domain=_TEXT, expert=_INT, rank=_INT)
_EXPERTS = _schema(
    layer=_INT,
    expert=_INT,
    mean_rank=_FLOAT,
    rank_variance=_FLOAT,
    presence=_FLOAT,
    candidate=_BOOL,
    member=_BOOL,
    share=_FLOAT,
    candidate_stability=_FLOAT,
    member_stability=_FLOAT,
)
_JACCARD = _schema(layer=_INT, domain_a=_TEXT, domain_b=_TEXT, jaccard=_FLOAT)
_LORENZ = _schema(layer=_INT, position=_INT, share=_FLOAT)
_SILHOUETTE = _schema(layer=_INT, index=pa.int64(), silhouette=_FLOAT)
_SAMPLES = _schema(
    index=pa.int64(),
    id=_TEXT,
    subject=_TEXT,
    domain=_TEXT,
    n_tokens=pa.int64(),
    answer=pa.int16(),
    predicted=pa.int16(),
    correct=_BOOL,
)


def _stack(measured: Measured, rows: Callable[[Measured, int], Columns], schema: pa.Schema) -> pa.Table:
    """One table over all layers; `rows` gives the columns of one layer, without its number."""
    parts = [schema.empty_table()]
    for i, reading in enumerate(measured.readings):
        columns = rows(measured, i)
        if columns:
            length = len(next(iter(columns.values())))
            parts.append(pa.table({"layer": [reading.layer.layer] * length, **columns}, schema=schema))
    return pa.concat_tables(parts)


def _contribution(measured: Measured, i: int) -> Columns:
    reading, names = measured.readings[i], measured.domains.names
    grid = _grid(names, reading)
    by_kind = {kind: contribution_DE.flatten().tolist() for kind, contribution_DE in reading.contribution.items()}
    kinds = {kind: by_kind.get(kind, [None] * len(grid["expert"])) for kind in KINDS}
    return grid | kinds | {end: _ends(measured, i, at) for at, end in enumerate(("low", "high"))}


def _ends(measured: Measured, i: int, at: int) -> list[float | None]:
    """One end of each contribution's interval; None in a dropped domain."""
    bounds_DE, n_experts = measured.evidence[i].bounds_2DE[at].tolist(), measured.readings[i].layer.experts
    by_domain = dict(zip(measured.kept, bounds_DE, strict=True))
    return [end for d in range(len(measured.domains)) for end in by_domain.get(d, [None] * n_experts)]


def _ranks(measured: Measured, i: int) -> Columns:
    reading = measured.readings[i]
    rank_DE = ops.ranks(measured.contribution(reading), reading.layer.top_k)
    return {**_grid(measured.kept_names, reading), "rank": rank_DE.flatten().tolist()}


def _experts(measured: Measured, i: int) -> Columns:
    reading, layer = measured.readings[i], measured.layers[i]
    contribution_DE, k = measured.contribution(reading), reading.layer.top_k
    rank_DE = ops.ranks(contribution_DE, k)
    experts = range(reading.layer.experts)
    mean_E, total = contribution_DE.mean(0), contribution_DE.mean(0).sum()
    return {
        "expert": experts,
        "mean_rank": rank_DE.double().mean(0).tolist(),
        "rank_variance": rank_DE.double().var(0, correction=0).tolist(),
        "presence": (rank_DE <= k).double().mean(0).tolist(),
        "candidate": [expert in set(layer["candidates"]) for expert in experts],
        "member": [expert in set(layer["committee"]) for expert in experts],
        "share": (mean_E / total).tolist() if total > 0 else [None] * len(experts),
        "candidate_stability": measured.evidence[i].candidate_share_E.tolist(),
        "member_stability": measured.evidence[i].member_share_E.tolist(),
    }


def _jaccard(measured: Measured, i: int) -> Columns:
    reading, names = measured.readings[i], measured.kept_names
    jaccard_DD = ops.jaccard(measured.contribution(reading), reading.layer.top_k)
    return {
        "domain_a": [a for a in names for _ in names],
        "domain_b": [b for _ in names for b in names],
        "jaccard": jaccard_DD.flatten().tolist(),
    }


def _lorenz(measured: Measured, i: int) -> Columns:
    mean_E = _mean(measured, i)
    if not mean_E.any():
        return {}
    curve = ops.lorenz(mean_E).tolist()
    return {"position": range(len(curve)), "share": curve}


def _silhouette(measured: Measured, i: int) -> Columns:
    silhouette_S = measured.readings[i].silhouette_S
    if silhouette_S is None:
        return {}
    return {"index": measured.samples["index"].to_list(), "silhouette": silhouette_S.tolist()}


def _mean(measured: Measured, i: int) -> Tensor:
    return torch.mean(measured.contribution(measured.readings[i]), dim=0)


def _grid(names: Sequence[str], reading: LayerReading) -> Columns:
    experts = range(reading.layer.experts)
    return {"domain": [name for name in names for _ in experts], "expert": [*experts] * len(names)}
