"""Binding of token types to the committee or to the periphery, in each domain, from a stored trace alone.

A token that chooses K experts makes K *selections*, each of a member of the layer's committee or of an expert of the
periphery. A type is bound to the committee in a domain if members receive more of its selections than their share of
all selections of the domain in that layer (the base rate).

Shapes: S samples, T tokens (of all samples), V token types, D domains, K experts chosen per token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.auditing.reading import Domains
from turnout.errors import RunError
from turnout.runs import Trace

FALSE_DISCOVERY = 0.05
FEWEST = 5  # a rarer type is counted but not tested, and has no row
Counts = NDArray[np.int64]


def has_tokens(trace: Trace) -> bool:
    """Whether the trace holds token ids; an imported one may not."""
    return bool((trace.tokens()[0] >= 0).all())


@dataclass(frozen=True, eq=False)
class TokenCorpus:
    """Tokens of a trace by type and domain; the same for all layers.

    Attributes:
        types_V: the token ids that occur, ascending.
        type_T: position of each token's id in `types_V`.
        cell_T: position of each token in a flat [V, D] array.
        count_VD: number of tokens of each type in each domain.
        samples_V: number of samples in which each type occurs.
        domains: names, in order.
    """

    types_V: NDArray[np.int32]
    type_T: Counts
    cell_T: Counts
    count_VD: Counts
    samples_V: Counts
    domains: tuple[str, ...]

    @classmethod
    def of(cls, trace: Trace, domains: Domains) -> "TokenCorpus":
        """Count the tokens of `trace`; RunError if it was imported without token ids."""
        tokens_T, offsets = trace.tokens()
        if not has_tokens(trace):
            do = "import it again with each sample's tokens"
            raise RunError(trace.folder, expected="token ids", received="a trace without them", do=do)
        types_V, type_T = np.unique(tokens_T, return_inverse=True)
        lengths_S = np.diff(offsets)
        cell_T = type_T * len(domains) + np.repeat(domains.label_S.numpy(), lengths_S)
        count_VD = np.bincount(cell_T, minlength=len(types_V) * len(domains)).reshape(len(types_V), len(domains))
        pairs = np.unique(np.repeat(np.arange(len(lengths_S)), lengths_S) * len(types_V) + type_T)
        samples_V = np.bincount(pairs % len(types_V), minlength=len(types_V))
        return cls(types_V, type_T, cell_T, count_VD, samples_V, domains.names)

    def selections(self, chosen_TK: NDArray[np.unsignedinteger], members: Sequence[int], n_experts: int) -> Counts:
        """Number of selections of `members` by the tokens of each type, by domain, [V, D]."""
        member_E = np.zeros(n_experts, bool)
        member_E[list(members)] = True
        hits_T = member_E[chosen_TK].sum(1)
        sums = np.bincount(self.cell_T, weights=hits_T, minlength=self.count_VD.size)
        return sums.astype(np.int64).reshape(self.count_VD.shape)


@dataclass(frozen=True, eq=False)
class Binding:
    """Binding of each of V types; arrays [V].

    `q` is the p-value of z, adjusted for all types tested, NaN for untested ones; `bound` is 1 for the committee, −1
    for the periphery, 0 for neither.
    """

    log_odds: NDArray[np.float64]
    z: NDArray[np.float64]
    q: NDArray[np.float64]
    bound: NDArray[np.int8]


def binding(committee_V: Counts, periphery_V: Counts, tested_V: NDArray[np.bool_]) -> Binding:
    """Test each type's selections of the committee against its selections of the periphery.

    `ops.log_odds` with a prior of no effect: each type in proportion to all its selections, one pseudo-selection per
    type on average. Two-sided p of z, Benjamini–Hochberg over the types tested, at 5 %: every type reported as bound
    has |z| > 1.96, and at most one in twenty of them is expected to be a false discovery.

    Args:
        committee_V: selections of members.
        periphery_V: selections of other experts.
        tested_V: which types are tested; each has a selection.
    """
    z_V, log_odds_V, q_V = np.zeros(len(tested_V)), np.zeros(len(tested_V)), np.full(len(tested_V), np.nan)
    occurs_V = committee_V + periphery_V > 0
    if occurs_V.sum() > 1:  # a single type is at the base rate
        committee, periphery = _doubles(committee_V[occurs_V]), _doubles(periphery_V[occurs_V])
        both = committee + periphery
        odds = ops.log_odds(committee, periphery, both * (len(both) / both.sum()))
        log_odds_V[occurs_V], z_V[occurs_V] = odds.log_odds.numpy(), odds.z.numpy()
    if tested_V.any():
        p = torch.special.erfc(torch.from_numpy(z_V[tested_V]).abs() / 2**0.5)
        q_V[tested_V] = ops.benjamini_hochberg(p).numpy()
    bound_V = np.where(q_V <= FALSE_DISCOVERY, np.sign(z_V), 0).astype(np.int8)
    return Binding(log_odds_V, z_V, q_V, bound_V)


def _doubles(values: Counts) -> Tensor:
    return torch.from_numpy(values.astype(np.float64))
