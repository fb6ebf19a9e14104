"""Penalty of each training method: the term added to the cross-entropy, from the routing of a batch.

To add a method, add its name to `Method` in config.py and its penalty to `PENALTIES` below.

Shapes: S training questions, B of a batch, k neighbors, R references, F scores: the experts of all trained layers, one
layer after another, E experts of one layer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from turnout import ops
from turnout.aligning.config import Method
from turnout.aligning.neighbors import Neighbors
from turnout.models.change.adapter import RouterWeights
from turnout.models.wrap.anatomy import MoELayer

Penalty = Callable[[Tensor, Tensor], Tensor]
"""Function of the batch's routing [B, F] and the indices of its questions [B] to a scalar, the mean over the batch."""
Targets = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Function of the indices of a batch's questions [B] to their targets [B, k, F] and weights [B, k]."""
_CHUNK = 4096  # questions whose targets are in memory at once


@dataclass(frozen=True, eq=False)
class PenaltyInputs:
    """Quantities from which a penalty is made.

    Attributes:
        routing_SF: r of every training question under the base routers.
        neighbors: neighbors of every training question.
        domains: domain of each training question.
        layers: the trained layers, in the order of F.
        weights: the trained routers.
        live_routing: function of the indices of questions to their r under the current routers, without gradient;
            None where targets are the base routing.
        seed: seed of random neighbors and permutations.
    """

    routing_SF: Tensor
    neighbors: Neighbors
    domains: Sequence[str]
    layers: Sequence[MoELayer]
    weights: RouterWeights
    live_routing: Callable[[Tensor], Tensor] | None
    seed: int


@dataclass(frozen=True, eq=False)
class ManifoldPenalty:
    """Manifold loss of a batch's routing and its targets (RoMA, arXiv 2511.07419)."""

    targets: Targets

    def __call__(self, routing_BF: Tensor, question_B: Tensor) -> Tensor:
        """A scalar, the mean over the batch."""
        near_BkF, weight_Bk = self.targets(question_B)
        return ops.manifold_loss(routing_BF, near_BkF.to(routing_BF.device), weight_Bk.to(routing_BF.device))

    def over_all(self, routing_SF: Tensor) -> float:
        """The penalty of all training questions."""
        total = 0.0
        for question_B in torch.arange(len(routing_SF)).split(_CHUNK):
            total += float(self(routing_SF[question_B], question_B)) * len(question_B)
        return total / len(routing_SF)


@dataclass(frozen=True, eq=False)
class RoutingTargets:
    """Targets that are the routing of other questions, those of `index_Sk`; −1 for none.

    Attributes:
        routing_SF: r of every training question.
        index_Sk: indices of the other questions.
        weight_Sk: their weights.
        live_routing: as in `PenaltyInputs`; replaces `routing_SF`.
    """

    routing_SF: Tensor
    index_Sk: Tensor
    weight_Sk: Tensor
    live_routing: Callable[[Tensor], Tensor] | None = None

    def __call__(self, question_B: Tensor) -> tuple[Tensor, Tensor]:
        """Targets [B, k, F] and weights [B, k]."""
        index_Bk = self.index_Sk[question_B].clamp(min=0)
        if self.live_routing is None:
            return self.routing_SF[index_Bk], self.weight_Sk[question_B]
        distinct, place_Bk = index_Bk.unique(return_inverse=True)
        return self.live_routing(distinct)[place_Bk], self.weight_Sk[question_B]


def nearest(inputs: PenaltyInputs) -> Targets:
    """RoMA: the nearest neighbors."""
    near = inputs.neighbors
    return RoutingTargets(inputs.routing_SF, near.index_Sk, near.weight_Sk, inputs.live_routing)


def random_neighbors(inputs: PenaltyInputs) -> Targets:
    """As many random reference questions with the weights of the neighbors; none of the question's own text."""
    near, generator = inputs.neighbors, torch.Generator().manual_seed(inputs.seed)
    drawn_Sk = torch.randint(len(near.reference_R), near.index_Sk.shape, generator=generator)
    wrong_Sk = _repeated(drawn_Sk) | (drawn_Sk == near.own_S.unsqueeze(1))
    while bool(wrong_Sk.any()):
        drawn_Sk[wrong_Sk] = torch.randint(len(near.reference_R), (int(wrong_Sk.sum()),), generator=generator)
        wrong_Sk = _repeated(drawn_Sk) | (drawn_Sk == near.own_S.unsqueeze(1))
    index_Sk = near.reference_R[drawn_Sk].masked_fill(near.index_Sk < 0, -1)
    return RoutingTargets(inputs.routing_SF, index_Sk, near.weight_Sk, inputs.live_routing)


def permuted(inputs: PenaltyInputs) -> Targets:
    """The neighbors of a random other question, without the question itself and others of its text."""
    near = inputs.neighbors
    order_S = torch.randperm(len(near.own_S), generator=torch.Generator().manual_seed(inputs.seed))
    other_S = torch.empty_like(order_S)
    other_S[order_S] = order_S.roll(1)  # one cycle through all questions, so that none keeps its own neighbors
    index_Sk, weight_Sk = near.index_Sk[other_S], near.weight_Sk[other_S]
    own_S = near.reference_R[near.own_S.clamp(min=0)].masked_fill(near.own_S < 0, -2)
    gone_Sk = (index_Sk == own_S.unsqueeze(1)) | (index_Sk < 0)
    weight_Sk = weight_Sk.masked_fill(gone_Sk, 0)
    total_S1 = weight_Sk.sum(1, keepdim=True)
    weight_Sk = weight_Sk / total_S1.where(total_S1 > 0, 1)
    return RoutingTargets(inputs.routing_SF, index_Sk.masked_fill(gone_Sk, -1), weight_Sk, inputs.live_routing)


def domain_mean(inputs: PenaltyInputs) -> Targets:
    """One target: the mean base routing of the domain's reference questions, without those of the question's text."""
    near, numbers = inputs.neighbors, {name: i for i, name in enumerate(dict.fromkeys(inputs.domains))}
    domain_S = torch.tensor([numbers[name] for name in inputs.domains])
    routing_RF, domain_R = inputs.routing_SF[near.reference_R].double(), domain_S[near.reference_R]
    sum_DF = torch.stack([routing_RF[domain_R == d].sum(0) for d in range(len(numbers))])
    count_D = torch.bincount(domain_R, minlength=len(numbers))
    own_S = near.own_S.clamp(min=0)
    counted_S = (near.own_S >= 0) & (domain_R[own_S] == domain_S)
    left_S = count_D[domain_S] - counted_S.long()
    mean_SF = (sum_DF[domain_S] - routing_RF[own_S] * counted_S.unsqueeze(1)) / left_S.clamp(min=1).unsqueeze(1)
    mean_SF, weight_S1 = mean_SF.to(inputs.routing_SF), (left_S > 0).to(inputs.routing_SF).unsqueeze(1)
    return lambda question_B: (mean_SF[question_B].unsqueeze(1), weight_S1[question_B])


def l1(inputs: PenaltyInputs) -> Penalty:
    """Mean over the trained routers' rows of Σ|w|. The paper names this regularizer without a formula; this is ours."""
    return lambda *_: _mean_row(inputs, lambda rows: rows.abs())


def l2(inputs: PenaltyInputs) -> Penalty:
    """Mean over the trained routers' rows of Σw². The paper names this regularizer without a formula; this is ours."""
    return lambda *_: _mean_row(inputs, lambda rows: rows.square())


def entropy(inputs: PenaltyInputs) -> Penalty:
    """Mean over the layers of the entropy of p, in nats: peaked routing costs less. The paper gives no formula."""
    widths = [layer.n_experts for layer in inputs.layers]

    def penalty(routing_BF: Tensor, question_B: Tensor) -> Tensor:  # noqa: ARG001  the arguments of a Penalty
        parts = [torch.special.entr(p_BE).sum(1) for p_BE in routing_BF.split(widths, 1)]
        return torch.stack(parts).mean()

    return penalty


PENALTIES: Mapping[Method, Callable[[PenaltyInputs], Penalty]] = {
    "roma": lambda inputs: ManifoldPenalty(nearest(inputs)),
    "no-success-filter": lambda inputs: ManifoldPenalty(nearest(inputs)),
    "random-neighbours": lambda inputs: ManifoldPenalty(random_neighbors(inputs)),
    "permuted-targets": lambda inputs: ManifoldPenalty(permuted(inputs)),
    "domain-mean": lambda inputs: ManifoldPenalty(domain_mean(inputs)),
    "l1": l1,
    "l2": l2,
    "entropy": entropy,
}
"""Makes the penalty of each training method; router tuning has none."""


def penalty_of(method: Method, inputs: PenaltyInputs) -> Penalty | None:
    """The penalty of `method`; None for router tuning."""
    return PENALTIES[method](inputs) if method in PENALTIES else None


def filters_by_success(method: Method) -> bool:
    """Whether only questions that the base model answers right may be neighbors."""
    return method != "no-success-filter"


def _mean_row(inputs: PenaltyInputs, size: Callable[[Tensor], Tensor]) -> Tensor:
    rows = [size(tensor).sum(-1) for tensor in inputs.weights.tensors.values() if tensor.dim() > 1]
    return torch.cat([row.reshape(-1) for row in rows]).mean()


def _repeated(index_Sk: Tensor) -> Tensor:
    """Whether a number occurs earlier in its row, [S, k]."""
    same_Skk = index_Sk.unsqueeze(2) == index_Sk.unsqueeze(1)
    return same_Skk.tril(-1).any(2)
