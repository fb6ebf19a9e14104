"""Which experts a token chooses together: within a layer and across layers, all pairs, against chance.

Chance within a layer is K independent choices with the experts' own shares (`ops.joint_inclusion`); across layers it is
independence of the two layers. z takes tokens as independent, which those of one text are not: read it as a ranking.

Shape suffixes: T tokens looked at, L MoE layers, E and F routed experts of two layers, K experts chosen per token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.progress import Progress, silent
from turnout.runs import Trace, TraceLayer

MOST_TOKENS = 30_000  # pairs are counted over so many tokens at most, evenly spaced over the run
MOST_PARTNERS = 5
_FIELDS = ("partner_layer", "partner", "together", "expected", "lift", "z")


@dataclass(frozen=True, eq=False)
class Pairs:
    """Two layers' experts: how often a token chose both, what chance expects, and z; [E, F] each."""

    together_EF: Tensor
    expected_EF: Tensor
    z_EF: Tensor


def within(chosen_TK: NDArray[np.unsignedinteger], n_experts: int) -> Pairs:
    """All pairs of one layer; an expert is no partner of itself (z −∞)."""
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
    """[T, E] of 0 and 1; float32 products of it are whole numbers, exact below 2²⁴."""
    hot_TE = torch.zeros(len(chosen_TK), n_experts)
    return hot_TE.scatter_(1, torch.from_numpy(chosen_TK.astype(np.int64)), 1.0)


def _z(together: Tensor, expected: Tensor, variance: Tensor) -> Tensor:
    """0 where chance leaves no room."""
    sure = variance <= 1e-9
    return ((together - expected) / variance.where(~sure, 1).sqrt()).where(~sure, 0.0)


@dataclass(frozen=True, eq=False)
class _Best:
    """The best partners so far of each of E experts, [E, P] in each of `_FIELDS`, best first."""

    columns: dict[str, Tensor]

    @classmethod
    def of(cls, pairs: Pairs, partner_layer: int) -> "_Best":
        """The best partners of `pairs`."""
        n_others = pairs.z_EF.shape[1]
        columns = {
            "partner_layer": torch.full_like(pairs.z_EF, partner_layer),
            "partner": torch.arange(n_others, dtype=torch.float64).expand_as(pairs.z_EF),
            "together": pairs.together_EF,
            "expected": pairs.expected_EF,
            "lift": pairs.together_EF / pairs.expected_EF.where(pairs.expected_EF > 0, 1),
            "z": pairs.z_EF,
        }
        return cls(columns)._cut()

    def joined(self, other: "_Best") -> "_Best":
        """The best of both; equals keep this one's first."""
        both = {name: torch.cat([self.columns[name], other.columns[name]], dim=1) for name in _FIELDS}
        return _Best(both)._cut()

    def _cut(self) -> "_Best":
        order = self.columns["z"].argsort(dim=1, descending=True, stable=True)[:, :MOST_PARTNERS]
        return _Best({name: column.gather(1, order) for name, column in self.columns.items()})

    def rows(self, layer: int, relation: str, n_tokens: int) -> pa.Table:
        """Partners that are together more often than chance has it, as rows of `atlas_partners`."""
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


def partner_table(trace: Trace, progress: Progress = silent) -> pa.Table:
    """For every expert the partners of greatest z: of its own layer, of the MoE layer before, of those before that.

    Columns: layer, expert, relation ("same", "previous", "earlier"), rank, partner_layer, partner, together (tokens
    that chose both), expected, lift (together / expected), z, tokens (how many were looked at). At most five partners
    in each relation, none that is met less often than by chance. In memory: every layer's choices for 30,000 tokens at
    most.
    """
    parts, seen = [SCHEMA.empty_table()], list[tuple[TraceLayer, NDArray[np.unsignedinteger]]]()
    for done, layer in enumerate(trace.layers):
        progress("pairing experts", done, len(trace.layers), "layers")
        chosen_TK = _spaced(trace.chosen(layer.layer)[0])
        n_tokens = len(chosen_TK)
        parts.append(_Best.of(within(chosen_TK, layer.experts), layer.layer).rows(layer.layer, "same", n_tokens))
        for relation, others in (("previous", seen[-1:]), ("earlier", seen[:-1])):
            best = _best_across(chosen_TK, layer, others)
            if best is not None:
                parts.append(best.rows(layer.layer, relation, n_tokens))
        seen.append((layer, chosen_TK))
    progress("pairing experts", len(trace.layers), len(trace.layers), "layers")
    return pa.concat_tables(parts)


def _best_across(
    chosen_TK: NDArray[np.unsignedinteger],
    layer: TraceLayer,
    others: Sequence[tuple[TraceLayer, NDArray[np.unsignedinteger]]],
) -> _Best | None:
    best: _Best | None = None
    for other, other_TK in others:
        found = _Best.of(across(chosen_TK, layer.experts, other_TK, other.experts), other.layer)
        best = found if best is None else best.joined(found)
    return best


def _spaced(chosen_TK: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """At most `MOST_TOKENS` tokens, evenly spaced: the same ones in each layer."""
    if len(chosen_TK) <= MOST_TOKENS:
        return chosen_TK
    return chosen_TK[np.linspace(0, len(chosen_TK) - 1, MOST_TOKENS).astype(np.int64)]


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
