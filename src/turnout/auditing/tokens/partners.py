"""Partners: pairs of experts that tokens choose together, within a layer and across layers, against chance.

Chance within a layer is K independent choices with the experts' own shares (`ops.joint_inclusion`); across layers it is
independence of the two layers. z treats tokens as independent, which tokens of one text are not: use it as a ranking.

Shapes: T counted tokens, L MoE layers, E and F routed experts of two layers, K experts chosen per token, P partners.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.listener import Listener
from turnout.runs import Trace, TraceLayer

MAX_TOKENS = 30_000  # pairs are counted over at most this many tokens, evenly spaced over the run
MAX_PARTNERS = 5
_FIELDS = ("partner_layer", "partner", "together", "expected", "lift", "z")


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of two layers' experts: tokens that chose both, number expected by chance, and z; [E, F] each."""

    together_EF: Tensor
    expected_EF: Tensor
    z_EF: Tensor


def within(chosen_TK: NDArray[np.unsignedinteger], n_experts: int) -> Pairs:
    """All pairs of one layer; an expert is not its own partner (z −∞)."""
    n_tokens, k = chosen_TK.shape
    choice_TE = _one_hot(chosen_TK, n_experts)
    together_EE = (choice_TE.T @ choice_TE).double()
    chance_EE = ops.joint_inclusion(together_EE.diagonal() / n_tokens, k)
    expected_EE = chance_EE * n_tokens
    pairs = Pairs(together_EE, expected_EE, _z(together_EE, expected_EE, expected_EE * (1 - chance_EE)))
    pairs.z_EF.fill_diagonal_(-torch.inf)
    return pairs


def across(
    chosen_TK: NDArray[np.unsignedinteger], n_experts: int, other_TK: NDArray[np.unsignedinteger], n_others: int
) -> Pairs:
    """All pairs of an expert of one layer and one of another; variance as under shuffled tokens (hypergeometric)."""
    n_tokens = len(chosen_TK)
    choice_TE, other_TF = _one_hot(chosen_TK, n_experts), _one_hot(other_TK, n_others)
    together_EF = (choice_TE.T @ other_TF).double()
    count_E1, count_F = choice_TE.sum(0).double()[:, None], other_TF.sum(0).double()
    expected_EF = count_E1 * count_F / n_tokens
    spread_EF = expected_EF * (1 - count_E1 / n_tokens) * (n_tokens - count_F) / max(1, n_tokens - 1)
    return Pairs(together_EF, expected_EF, _z(together_EF, expected_EF, spread_EF))


def _one_hot(chosen_TK: NDArray[np.unsignedinteger], n_experts: int) -> Tensor:
    """Choices as [T, E] of 0 and 1; products in float32 are whole numbers, exact below 2²⁴."""
    hot_TE = torch.zeros(len(chosen_TK), n_experts)
    return hot_TE.scatter_(1, torch.from_numpy(chosen_TK.astype(np.int64)), 1.0)


def _z(together: Tensor, expected: Tensor, variance: Tensor) -> Tensor:
    """Difference from chance over its standard deviation; 0 where the variance is 0."""
    constant = variance <= 1e-9
    return ((together - expected) / variance.where(~constant, 1).sqrt()).where(~constant, 0.0)


@dataclass(frozen=True, eq=False)
class _Best:
    """Best partners of each of E experts, best first: [E, P] for each of `_FIELDS`."""

    columns: dict[str, Tensor]

    @classmethod
    def of(cls, pairs: Pairs, partner_layer: int) -> "_Best":
        """Select the best partners of `pairs`."""
        n_others = pairs.z_EF.shape[1]
        columns = {
            "partner_layer": torch.full_like(pairs.z_EF, partner_layer),
            "partner": torch.arange(n_others, dtype=torch.float64).expand_as(pairs.z_EF),
            "together": pairs.together_EF,
            "expected": pairs.expected_EF,
            "lift": pairs.together_EF / pairs.expected_EF.where(pairs.expected_EF > 0, 1),
            "z": pairs.z_EF,
        }
        return cls(columns)._truncated()

    def joined(self, other: "_Best") -> "_Best":
        """Best partners of both; for equal z this one's come first."""
        both = {name: torch.cat([self.columns[name], other.columns[name]], dim=1) for name in _FIELDS}
        return _Best(both)._truncated()

    def _truncated(self) -> "_Best":
        order = self.columns["z"].argsort(dim=1, descending=True, stable=True)[:, :MAX_PARTNERS]
        return _Best({name: column.gather(1, order) for name, column in self.columns.items()})

    def rows(self, layer: int, relation: str, n_tokens: int) -> pa.Table:
        """Rows of `atlas_partners`: partners that are chosen together more often than by chance."""
        kept = (self.columns["z"] > 0) & (self.columns["together"] > 0)
        expert, rank = kept.nonzero(as_tuple=True)
        columns: dict[str, object] = {
            "layer": np.full(len(expert), layer),
            "expert": expert.numpy(),
            "relation": [relation] * len(expert),
            "rank": rank.numpy() + 1,
            **{name: self.columns[name][kept].numpy() for name in _FIELDS},
            "tokens": np.full(len(expert), n_tokens),
        }
        whole = ("partner_layer", "partner", "together")
        columns |= {name: self.columns[name][kept].long().numpy() for name in whole}
        return pa.table(columns, schema=SCHEMA)


def partner_table(trace: Trace, listener: Listener = Listener()) -> pa.Table:
    """For every expert the partners of greatest z: in its own layer, in the previous MoE layer, in earlier ones.

    Columns: layer, expert, relation ("same", "previous", "earlier"), rank, partner_layer, partner, together (tokens
    that chose both), expected, lift (together / expected), z, tokens (how many were counted). At most five partners
    for each relation, each chosen together more often than by chance. In memory: the choices of all layers for at most
    30,000 tokens.
    """
    parts, previous = [SCHEMA.empty_table()], list[tuple[TraceLayer, NDArray[np.unsignedinteger]]]()
    for done, layer in enumerate(trace.layers):
        listener.progress("pairing experts", done, len(trace.layers), "layers")
        chosen_TK = _spaced(trace.chosen(layer.layer)[0])
        n_tokens = len(chosen_TK)
        parts.append(_Best.of(within(chosen_TK, layer.experts), layer.layer).rows(layer.layer, "same", n_tokens))
        for relation, others in (("previous", previous[-1:]), ("earlier", previous[:-1])):
            best = _best_across(chosen_TK, layer, others)
            if best is not None:
                parts.append(best.rows(layer.layer, relation, n_tokens))
        previous.append((layer, chosen_TK))
    listener.progress("pairing experts", len(trace.layers), len(trace.layers), "layers")
    return pa.concat_tables(parts)


def _best_across(
    chosen_TK: NDArray[np.unsignedinteger],
    layer: TraceLayer,
    others: Sequence[tuple[TraceLayer, NDArray[np.unsignedinteger]]],
) -> _Best | None:
    best: _Best | None = None
    for other, other_TK in others:
        candidates = _Best.of(across(chosen_TK, layer.experts, other_TK, other.experts), other.layer)
        best = candidates if best is None else best.joined(candidates)
    return best


def _spaced(chosen_TK: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """At most `MAX_TOKENS` tokens, evenly spaced, the same ones in each layer."""
    if len(chosen_TK) <= MAX_TOKENS:
        return chosen_TK
    return chosen_TK[np.linspace(0, len(chosen_TK) - 1, MAX_TOKENS).astype(np.int64)]


_INT, _COUNT, _FLOAT, _TEXT = pa.int32(), pa.int64(), pa.float64(), pa.string()
SCHEMA = pa.schema(
    [
        ("layer", _INT),
        ("expert", _INT),
        ("relation", _TEXT),
        ("rank", _INT),
        ("partner_layer", _INT),
        ("partner", _INT),
        ("together", _COUNT),
        ("expected", _FLOAT),
        ("lift", _FLOAT),
        ("z", _FLOAT),
        ("tokens", _COUNT),
    ]
)
