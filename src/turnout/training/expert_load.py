"""Load of a layer's experts: how evenly the router distributes tokens, summed over forwards.

Shapes: T tokens of a forward, E routed experts, K experts chosen a token.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LayerLoad:
    """Load figures of one layer over several training steps; Python numbers.

    Attributes:
        n_tokens: number of real tokens.
        counts: tokens dispatched to each expert; their sum is n_tokens × K.
        load_max_over_mean: tokens of the busiest expert over the mean; 1 is even.
        load_cv: standard deviation of tokens over experts, over their mean; 0 is even.
        load_entropy: entropy of the load over log E; 1 is even, 0 is one expert.
        token_entropy: mean over tokens of the entropy of p, over log E; 1 is undecided, 0 is certain.
        dead_experts: number of experts without a token.
        balance: E·Σ_e f_e·P_e with f_e expert e's share of all choices and P_e the mean of p_e (Fedus et al.,
            arXiv 2101.03961, eq. 4–6), on the dispatched tokens; 1 is even. transformers' auxiliary loss is K times it.
        committee: the K experts with the most tokens; the lower number first on ties.
    """

    n_tokens: int
    counts: tuple[int, ...]
    load_max_over_mean: float
    load_cv: float
    load_entropy: float
    token_entropy: float
    dead_experts: int
    balance: float
    committee: frozenset[int]


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums since the last `take`: real tokens; choices of each expert; Σp of each expert and, last, Σ entropy of p."""

    n_tokens: Tensor
    counts_E: Tensor
    scores: Tensor


class LoadMeter:
    """Accumulator of a layer's router outputs over forwards, on the router's device."""

    def __init__(self, n_experts: int, top_k: int) -> None:
        self.n_experts, self.top_k = n_experts, top_k
        self._sums: _Sums | None = None

    @torch.no_grad()
    def add(self, scores_TE: Tensor, chosen_TK: Tensor, real_T: Tensor | None = None) -> None:
        """Add one forward's tokens.

        Args:
            scores_TE: p, float32; each row sums to 1.
            chosen_TK: the experts that the router dispatched to, int64 or int32.
            real_T: True for tokens, False for padding; None: no padding.
        """
        sums = self._sums or self._start(scores_TE.device)
        if real_T is None:
            real_T = torch.ones(len(chosen_TK), dtype=torch.bool, device=scores_TE.device)
        else:
            scores_TE = scores_TE.masked_fill(~real_T.unsqueeze(1), 0.0)  # scores of padding may be NaN
        sums.counts_E.scatter_add_(0, chosen_TK.long().reshape(-1), real_T.long().repeat_interleave(self.top_k))
        sums.n_tokens.add_(real_T.sum())
        sums.scores[:-1] += scores_TE.sum(0)
        sums.scores[-1] += torch.special.entr(scores_TE).sum()

    def tensors(self, device: torch.device) -> list[Tensor]:
        """The sums, for an all-reduce in place before `take`; zeros on `device` if nothing was added."""
        sums = self._sums or self._start(device)
        return [sums.n_tokens, sums.counts_E, sums.scores]

    def take(self) -> LayerLoad | None:
        """Figures of the tokens added since the last call, and reset; None if there were none."""
        sums, self._sums = self._sums, None
        if sums is None or not (n_tokens := int(sums.n_tokens)):
            return None
        counts_E, scores = sums.counts_E.double().cpu(), sums.scores.double().cpu()
        share_E, most = counts_E / (n_tokens * self.top_k), math.log(self.n_experts) or 1.0
        busiest = counts_E.argsort(descending=True, stable=True)
        return LayerLoad(
            n_tokens=n_tokens,
            counts=tuple(sums.counts_E.tolist()),
            load_max_over_mean=float(share_E.max() * self.n_experts),
            load_cv=float(share_E.std(correction=0) * self.n_experts),
            load_entropy=float(torch.special.entr(share_E).sum() / most),
            token_entropy=float(scores[-1] / n_tokens / most),
            dead_experts=int((counts_E == 0).sum()),
            balance=float(share_E @ scores[:-1] * self.n_experts / n_tokens),
            committee=frozenset(busiest[: self.top_k].tolist()),
        )

    def _start(self, device: torch.device) -> _Sums:
        exact = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        self._sums = _Sums(
            n_tokens=torch.zeros((), dtype=torch.int64, device=device),
            counts_E=torch.zeros(self.n_experts, dtype=torch.int64, device=device),
            scores=torch.zeros(self.n_experts + 1, dtype=exact, device=device),
        )
        return self._sums
