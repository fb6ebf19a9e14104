"""Atlas of the experts: tokens, domains and partners of each one, from a stored trace alone.

Shapes: T tokens (of all samples), V token types, D domains, E routed experts, K experts chosen per token.
"""

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from turnout import ops
from turnout.auditing.reading import Domains
from turnout.auditing.tokens.binding import Counts, TokenCorpus, has_tokens
from turnout.auditing.tokens.partners import partner_table
from turnout.listener import Listener
from turnout.runs import Trace, TraceLayer

TOP_TOKENS = 10
_BLOCK_CELLS = 1 << 21  # cells of [experts, types] whose log-odds are in memory together


def atlas_tables(trace: Trace, domains: Domains, listener: Listener = Listener()) -> dict[str, pa.Table]:
    """Tables of what each expert is chosen for; one layer's choices in memory at a time.

    Args:
        trace: a finished trace.
        domains: each sample's domain.
        listener: receives progress once a layer.

    Returns:
        atlas: layer, expert, count (tokens that chose it), frequency (their share), types (distinct ones; null if the
            trace has no token ids).
        atlas_domains: layer, expert, domain, count, share (of the expert's tokens), lift (the share of the domain's
            tokens that chose it, over the share of all tokens; null for an expert that no token chose).
        atlas_tokens: layer, expert, by ("log_odds" or "count"), rank, token, count, share (of the expert's tokens),
            log_odds, z; no rows if the trace has no token ids.
        atlas_partners: see `partners.partner_table`.
    """
    corpus = TokenCorpus.of(trace, domains) if has_tokens(trace) else None
    domain_T = np.repeat(domains.label_S.numpy(), trace.samples()["n_tokens"].to_numpy())
    parts: dict[str, list[pa.Table]] = {name: [schema.empty_table()] for name, schema in _SCHEMAS.items()}
    for done, layer in enumerate(trace.layers):
        listener.progress("mapping experts", done, len(trace.layers), "layers")
        chosen_TK, _ = trace.chosen(layer.layer)
        count_EV = None if corpus is None else _counts(chosen_TK, corpus.type_T, layer.experts, len(corpus.types_V))
        count_ED = _counts(chosen_TK, domain_T, layer.experts, len(domains))
        parts["atlas"].append(_experts(layer, count_ED.sum(1), len(domain_T), count_EV))
        parts["atlas_domains"].append(_domains(layer, domains, count_ED, np.bincount(domain_T)))
        if corpus is not None and count_EV is not None:
            parts["atlas_tokens"].append(_top_tokens(layer, corpus, count_EV))
    listener.progress("mapping experts", len(trace.layers), len(trace.layers), "layers")
    tables = {name: pa.concat_tables(of_layers) for name, of_layers in parts.items()}
    return tables | {"atlas_partners": partner_table(trace, listener)}


def _counts(chosen_TK: NDArray[np.unsignedinteger], label_T: Counts, n_experts: int, n_labels: int) -> Counts:
    """Number of tokens of each label that chose each expert, [E, labels]."""
    total = np.zeros(n_experts * n_labels, np.int64)
    for chosen_T in chosen_TK.T:  # one rank at a time: all keys together would take K times the memory
        total += np.bincount(chosen_T.astype(np.int64) * n_labels + label_T, minlength=len(total))
    return total.reshape(n_experts, n_labels)


def _experts(layer: TraceLayer, count_E: Counts, n_tokens: int, count_EV: Counts | None) -> pa.Table:
    columns = {
        "layer": np.full(len(count_E), layer.layer),
        "expert": np.arange(len(count_E)),
        "count": count_E,
        "frequency": count_E / n_tokens,
        "types": [None] * len(count_E) if count_EV is None else (count_EV > 0).sum(1),
    }
    return pa.table(columns, schema=_SCHEMAS["atlas"])


def _domains(layer: TraceLayer, domains: Domains, count_ED: Counts, tokens_D: Counts) -> pa.Table:
    n_experts, n_domains = count_ED.shape
    total_E1 = count_ED.sum(1, keepdims=True)
    frequency_E1 = total_E1 / tokens_D.sum()
    lift_ED = (count_ED / tokens_D) / np.where(total_E1 > 0, frequency_E1, 1)
    chosen = np.broadcast_to(total_E1 > 0, count_ED.shape).ravel()
    columns = {
        "layer": np.full(count_ED.size, layer.layer),
        "expert": np.repeat(np.arange(n_experts), n_domains),
        "domain": list(domains.names) * n_experts,
        "count": count_ED.ravel(),
        "share": pa.array((count_ED / np.maximum(1, total_E1)).ravel(), mask=~chosen),
        "lift": pa.array(lift_ED.ravel(), mask=~chosen),
    }
    return pa.table(columns, schema=_SCHEMAS["atlas_domains"])


def _top_tokens(layer: TraceLayer, corpus: TokenCorpus, count_EV: Counts) -> pa.Table:
    """First tokens of each expert: by z of their log-odds against all other experts, and by count."""
    n_experts, n_types = count_EV.shape
    total_V = count_EV.sum(0)
    step = max(1, _BLOCK_CELLS // n_types)
    parts = [_SCHEMAS["atlas_tokens"].empty_table()]
    for start in range(0, n_experts, step):
        block_EV = count_EV[start : start + step]
        log_odds_EV, z_EV = _against_others(block_EV, total_V)
        for by, key_EV in (("log_odds", z_EV), ("count", block_EV)):
            place_EN = np.argsort(-key_EV, axis=1, kind="stable")[:, :TOP_TOKENS]
            kept = np.take_along_axis((block_EV > 0) & ((z_EV > 0) | (by == "count")), place_EN, 1)
            row, rank = np.nonzero(kept)
            token = place_EN[kept]
            count = block_EV[row, token]
            columns = {
                "layer": np.full(len(row), layer.layer),
                "expert": row + start,
                "by": [by] * len(row),
                "rank": rank + 1,
                "token": corpus.types_V[token],
                "count": count,
                "share": count / block_EV.sum(1)[row],
                "log_odds": log_odds_EV[row, token],
                "z": z_EV[row, token],
            }
            parts.append(pa.table(columns, schema=_SCHEMAS["atlas_tokens"]))
    return pa.concat_tables(parts)


def _against_others(count_EV: Counts, total_V: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds and z of each expert's tokens against those of all others, with one pseudo-count per type on average."""
    if len(total_V) < 2:  # a single type has nothing to be compared with
        return np.zeros(count_EV.shape), np.zeros(count_EV.shape)
    count, total = torch.from_numpy(count_EV).double(), torch.from_numpy(total_V).double()
    prior = total * (len(total_V) / total.sum())
    odds = ops.log_odds(count, total - count, prior.expand_as(count))
    return odds.log_odds.numpy(), odds.z.numpy()


_INT, _COUNT, _FLOAT, _TEXT = pa.int32(), pa.int64(), pa.float64(), pa.string()
_EXPERT = {"layer": _INT, "expert": _INT}
_SCHEMAS = {
    name: pa.schema(list(columns.items()))
    for name, columns in {
        "atlas": {**_EXPERT, "count": _COUNT, "frequency": _FLOAT, "types": _COUNT},
        "atlas_domains": {**_EXPERT, "domain": _TEXT, "count": _COUNT, "share": _FLOAT, "lift": _FLOAT},
        "atlas_tokens": {
            **_EXPERT,
            "by": _TEXT,
            "rank": _INT,
            "token": _INT,
            "count": _COUNT,
            **dict.fromkeys(("share", "log_odds", "z"), _FLOAT),
        },
    }.items()
}
