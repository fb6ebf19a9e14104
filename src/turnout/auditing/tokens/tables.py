"""Token tables: the types that occur, and their selections of each layer's committee.

Shapes: T tokens (of all samples), V token types, D domains, K experts chosen per token.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.auditing.reading import Domains
from turnout.auditing.tokens.binding import FEWEST, Binding, Counts, TokenCorpus, binding
from turnout.auditing.tokens.classes import CLASSES, token_class
from turnout.listener import Listener
from turnout.runs import Trace, TraceLayer

INVARIANT_DOMAINS = 3


def token_tables(
    trace: Trace,
    domains: Domains,
    committees: Mapping[int, Sequence[int]],
    texts: Mapping[int, str] | None = None,
    listener: Listener = Listener(),
) -> dict[str, pa.Table]:
    """Tables of every token type that occurs and of its binding in each layer; one layer's choices in memory at a time.

    Args:
        trace: a finished trace.
        domains: each sample's domain.
        committees: the members of each layer, by the decoder layer's number.
        texts: texts of the types from `token_strings`; a type without text has no class either.
        listener: receives progress once a layer.

    Returns:
        tokens: token, text, class, count, samples; every type that occurs.
        token_domains: layer, domain, token, count, committee, periphery, rate, share, base, log_odds, z, q, bound.
        token_layers: layer, token, count, committee, periphery, rate, share, committee_domains, periphery_domains,
            invariant.
        token_classes: layer, domain, class, count, committee, periphery, rate; no rows without texts.

        Columns: `docs/methods/tokens.md`. A type that occurs fewer than five times has no row, in token_domains within
        the domain, in token_layers in the whole run.

    Raises:
        RunError: the trace was imported without token ids.
    """
    corpus = TokenCorpus.of(trace, domains)
    classes_V = [None if text is None else token_class(text) for text in _texts(corpus, texts)]
    parts: dict[str, list[pa.Table]] = {name: [schema.empty_table()] for name, schema in _SCHEMAS.items()}
    parts["tokens"].append(_tokens(corpus, _texts(corpus, texts), classes_V))
    for done, layer in enumerate(trace.layers):
        listener.progress("reading tokens", done, len(trace.layers), "layers")
        chosen_TK, _ = trace.chosen(layer.layer)
        committee_VD = corpus.selections(chosen_TK, committees[layer.layer], layer.experts)
        for name, table in _layer_tables(corpus, layer, committee_VD, classes_V).items():
            parts[name].append(table)
    listener.progress("reading tokens", len(trace.layers), len(trace.layers), "layers")
    return {name: pa.concat_tables(tables) for name, tables in parts.items()}


def _layer_tables(
    corpus: TokenCorpus, layer: TraceLayer, committee_VD: Counts, classes_V: Sequence[str | None]
) -> dict[str, pa.Table]:
    periphery_VD = corpus.count_VD * layer.top_k - committee_VD
    tested_VD = corpus.count_VD >= FEWEST
    n_domains = len(corpus.domains)
    bindings = [binding(committee_VD[:, d], periphery_VD[:, d], tested_VD[:, d]) for d in range(n_domains)]
    by_domain = [
        _domain_rows(corpus, layer, d, committee_VD[:, d], periphery_VD[:, d], tested_VD[:, d], bindings[d])
        for d in range(n_domains)
    ]
    bound_VD = np.stack([in_domain.bound for in_domain in bindings], axis=1)
    return {
        "token_domains": pa.concat_tables(by_domain),
        "token_layers": _layer_rows(corpus, layer, committee_VD.sum(1), periphery_VD.sum(1), bound_VD),
        "token_classes": _class_rows(corpus, layer, committee_VD, periphery_VD, classes_V),
    }


def _domain_rows(
    corpus: TokenCorpus,
    layer: TraceLayer,
    d: int,
    committee_V: Counts,
    periphery_V: Counts,
    tested_V: NDArray[np.bool_],
    domain_binding: Binding,
) -> pa.Table:
    rows = np.flatnonzero(tested_V)
    selected = committee_V.sum()
    columns = {
        "layer": np.full(len(rows), layer.layer),
        "domain": [corpus.domains[d]] * len(rows),
        **_counted(corpus, rows, corpus.count_VD[:, d], committee_V, periphery_V),
        "base": np.full(len(rows), selected / max(1, selected + periphery_V.sum())),
        "log_odds": domain_binding.log_odds[rows],
        "z": domain_binding.z[rows],
        "q": domain_binding.q[rows],
        "bound": [_SIDES[side] for side in domain_binding.bound[rows].tolist()],
    }
    return pa.table(columns, schema=_SCHEMAS["token_domains"])


def _layer_rows(
    corpus: TokenCorpus, layer: TraceLayer, committee_V: Counts, periphery_V: Counts, bound_VD: NDArray[np.int8]
) -> pa.Table:
    count_V = corpus.count_VD.sum(1)
    rows = np.flatnonzero(count_V >= FEWEST)
    to_committee, to_periphery = (bound_VD[rows] == 1).sum(1), (bound_VD[rows] == -1).sum(1)
    pairs = zip(to_committee.tolist(), to_periphery.tolist(), strict=True)
    columns = {
        "layer": np.full(len(rows), layer.layer),
        **_counted(corpus, rows, count_V, committee_V, periphery_V),
        "committee_domains": to_committee,
        "periphery_domains": to_periphery,
        "invariant": [_invariant(*pair) for pair in pairs],
    }
    return pa.table(columns, schema=_SCHEMAS["token_layers"])


def _invariant(to_committee: int, to_periphery: int) -> str | None:
    """The side to which a type is bound in three domains or more; None for neither or both."""
    sides = [side for side, n in (("committee", to_committee), ("periphery", to_periphery)) if n >= INVARIANT_DOMAINS]
    return sides[0] if len(sides) == 1 else None


def _counted(
    corpus: TokenCorpus, rows: NDArray[np.intp], count_V: Counts, committee_V: Counts, periphery_V: Counts
) -> dict[str, NDArray[np.generic]]:
    committee, periphery = committee_V[rows], periphery_V[rows]
    return {
        "token": corpus.types_V[rows],
        "count": count_V[rows],
        "committee": committee,
        "periphery": periphery,
        "rate": committee / np.maximum(1, committee + periphery),
        "share": committee / max(1, committee_V.sum()),
    }


def _class_rows(
    corpus: TokenCorpus,
    layer: TraceLayer,
    committee_VD: Counts,
    periphery_VD: Counts,
    classes_V: Sequence[str | None],
) -> pa.Table:
    of_class = {name: np.array([label == name for label in classes_V], bool) for name in CLASSES}
    rows = [
        (layer.layer, domain, name, *(x[where, d].sum().item() for x in (corpus.count_VD, committee_VD, periphery_VD)))
        for d, domain in enumerate(corpus.domains)
        for name, where in of_class.items()
    ]
    kept = [(*row, row[4] / (row[4] + row[5])) for row in rows if row[3]]
    schema = _SCHEMAS["token_classes"]
    if not kept:
        return schema.empty_table()
    return pa.table(dict(zip(schema.names, zip(*kept, strict=True), strict=True)), schema=schema)


def _texts(corpus: TokenCorpus, texts: Mapping[int, str] | None) -> list[str | None]:
    return [(texts or {}).get(token) for token in corpus.types_V.tolist()]


def _tokens(corpus: TokenCorpus, texts_V: Sequence[str | None], classes_V: Sequence[str | None]) -> pa.Table:
    columns = {
        "token": corpus.types_V,
        "text": texts_V,
        "class": classes_V,
        "count": corpus.count_VD.sum(1),
        "samples": corpus.samples_V,
    }
    return pa.table(columns, schema=_SCHEMAS["tokens"])


_SIDES = {1: "committee", -1: "periphery", 0: None}
_INT, _COUNT, _FLOAT, _TEXT = pa.int32(), pa.int64(), pa.float64(), pa.string()
_COUNTED = {"token": _INT, "count": _COUNT, "committee": _COUNT, "periphery": _COUNT, "rate": _FLOAT, "share": _FLOAT}
_SCHEMAS = {
    name: pa.schema(list(columns.items()))
    for name, columns in {
        "tokens": {"token": _INT, "text": _TEXT, "class": _TEXT, "count": _COUNT, "samples": _COUNT},
        "token_domains": {
            "layer": _INT,
            "domain": _TEXT,
            **_COUNTED,
            **dict.fromkeys(("base", "log_odds", "z", "q"), _FLOAT),
            "bound": _TEXT,
        },
        "token_layers": {
            "layer": _INT,
            **_COUNTED,
            "committee_domains": _INT,
            "periphery_domains": _INT,
            "invariant": _TEXT,
        },
        "token_classes": {
            "layer": _INT,
            "domain": _TEXT,
            "class": _TEXT,
            **dict.fromkeys(("count", "committee", "periphery"), _COUNT),
            "rate": _FLOAT,
        },
    }.items()
}
