"""What each method adds to the cross-entropy: a penalty on a batch's routing.

Shapes: S training questions, B of a batch, k neighbors, R references, F scores of the layers that are read, E experts
of one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from turnout import ops
from turnout.aligning.config import Method
from turnout.aligning.neighbors import Neighbourhood
from turnout.models.change.adapter import RouterWeights
from turnout.models.wrap.anatomy import MoELayer

Penalty = Callable[[Tensor, Tensor], Tensor]
"""From the batch's routing [B, F] and its questions [B] to a scalar, mean over the batch."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One alignment, as its method sees it.

    Attributes:
        routing_SF: r of every training question under the base routers.
        hood: its neighbours.
        domains: each question's domain.
        layers: the layers that are trained, in the order of F.
        weights: the routers that are trained.
        live: r of some questions (their numbers) under the routers as they are, without gradient; None: base.
        seed: of what is drawn.
    """

    routing_SF: Tensor
    hood: Neighbourhood
    domains: Sequence[str]
    layers: Sequence[MoELayer]
    weights: RouterWeights
    live: Callable[[Tensor], Tensor] | None
    seed: int


Targets = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From a batch's questions [B] to their targets [B, k, F] and weights [B, k]."""


@dataclass(frozen=True, eq=False)
class Manifold:
    """The manifold loss of a batch's routing and its targets."""

    targets: Targets

    def __call__(self, routing_BF: Tensor, question_B: Tensor) -> Tensor:
        """A scalar, mean over the batch."""
        near_BkF, weight_Bk = self.targets(question_B)
        return ops.manifold_loss(routing_BF, near_BkF.to(routing_BF.device), weight_Bk.to(routing_BF.device))


@dataclass(frozen=True, eq=False)
class _Questions:
    """Targets that are the routing of other questions, `index_Sk`; −1 for none."""

    setting: Setting
    index_Sk: Tensor
    weight_Sk: Tensor

    def __call__(self, question_B: Tensor) -> tuple[Tensor, Tensor]:
        index_Bk = self.index_Sk[question_B].clamp(min=0)
        if self.setting.live is None:
            return self.setting.routing_SF[index_Bk], self.weight_Sk[question_B]
        asked, place = index_Bk.unique(return_inverse=True)
        return self.setting.live(asked)[place], self.weight_Sk[question_B]


def nearest(setting: Setting) -> Targets:
    """RoMA: the neighbours."""
    return _Questions(setting, setting.hood.index_Sk, setting.hood.weight_Sk)


def random_neighbours(setting: Setting) -> Targets:
    """As many random members of the successful set, with the weights that the neighbours had; none of the same text."""
    hood, generator = setting.hood, torch.Generator().manual_seed(setting.seed)
    drawn_Sk = torch.randint(len(hood.reference_R), hood.index_Sk.shape, generator=generator)
    wrong = _repeated(drawn_Sk) | (drawn_Sk == hood.own_S.unsqueeze(1))
    while bool(wrong.any()):
        drawn_Sk[wrong] = torch.randint(len(hood.reference_R), (int(wrong.sum()),), generator=generator)
        wrong = _repeated(drawn_Sk) | (drawn_Sk == hood.own_S.unsqueeze(1))
    index_Sk = hood.reference_R[drawn_Sk].masked_fill(hood.index_Sk < 0, -1)
    return _Questions(setting, index_Sk, hood.weight_Sk)


def permuted(setting: Setting) -> Targets:
    """The neighbours of a random other question; one that is the question itself, or of its text, is left out."""
    hood = setting.hood
    order_S = torch.randperm(len(hood.own_S), generator=torch.Generator().manual_seed(setting.seed))
    other_S = torch.empty_like(order_S)
    other_S[order_S] = order_S.roll(1)  # one cycle through all questions: nobody keeps their own
    index_Sk, weight_Sk = hood.index_Sk[other_S], hood.weight_Sk[other_S]
    own_S = hood.reference_R[hood.own_S.clamp(min=0)].masked_fill(hood.own_S < 0, -2)
    gone_Sk = (index_Sk == own_S.unsqueeze(1)) | (index_Sk < 0)
    weight_Sk = weight_Sk.masked_fill(gone_Sk, 0)
    total_S1 = weight_Sk.sum(1, keepdim=True)
    return _Questions(setting, index_Sk.masked_fill(gone_Sk, -1), weight_Sk / total_S1.where(total_S1 > 0, 1))


def domain_mean(setting: Setting) -> Targets:
    """One target: the mean base routing of the references of the question's domain, its own text left out."""
    hood, names = setting.hood, {name: i for i, name in enumerate(dict.fromkeys(setting.domains))}
    domain_S = torch.tensor([names[name] for name in setting.domains])
    routing_RF, domain_R = setting.routing_SF[hood.reference_R].double(), domain_S[hood.reference_R]
    sum_DF = torch.stack([routing_RF[domain_R == d].sum(0) for d in range(len(names))])
    count_D = torch.bincount(domain_R, minlength=len(names))
    own_S = hood.own_S.clamp(min=0)
    counted_S = (hood.own_S >= 0) & (domain_R[own_S] == domain_S)
    left_S = count_D[domain_S] - counted_S.long()
    mean_SF = (sum_DF[domain_S] - routing_RF[own_S] * counted_S.unsqueeze(1)) / left_S.clamp(min=1).unsqueeze(1)
    mean_SF, weight_S1 = mean_SF.to(setting.routing_SF), (left_S > 0).to(setting.routing_SF).unsqueeze(1)
    return lambda question_B: (mean_SF[question_B].unsqueeze(1), weight_S1[question_B])


def _repeated(index_Sk: Tensor) -> Tensor:
    """[S, k]: whether a number stood in its row before."""
    same_Skk = index_Sk.unsqueeze(2) == index_Sk.unsqueeze(1)
    return same_Skk.tril(-1).any(2)


def l1(setting: Setting) -> Penalty:
    """Mean over the trained routers' rows of Σ|w|."""
    return lambda *_: _mean_row(setting, lambda rows: rows.abs())


def l2(setting: Setting) -> Penalty:
    """Mean over the trained routers' rows of Σw²."""
    return lambda *_: _mean_row(setting, lambda rows: rows.square())


def entropy(setting: Setting) -> Penalty:
    """Mean over the layers of the entropy of p, in nats: a router that is sure of itself pays less."""
    widths = [layer.n_experts for layer in setting.layers]

    def penalty(routing_BF: Tensor, question_B: Tensor) -> Tensor:  # noqa: ARG001  a Penalty's arguments
        parts = [torch.special.entr(p_BE).sum(1) for p_BE in routing_BF.split(widths, 1)]
        return torch.stack(parts).mean()

    return penalty


def _mean_row(setting: Setting, size: Callable[[Tensor], Tensor]) -> Tensor:
    rows = [size(tensor).sum(-1) for tensor in setting.weights.tensors.values() if tensor.dim() > 1]
    return torch.cat([row.reshape(-1) for row in rows]).mean()


_TARGETS: Mapping[Method, Callable[[Setting], Targets]] = {
    "roma": nearest,
    "no-success-filter": nearest,
    "random-neighbours": random_neighbours,
    "permuted-targets": permuted,
    "domain-mean": domain_mean,
}
_PENALTIES: Mapping[Method, Callable[[Setting], Penalty]] = {
    "l1": l1,
    "l2": l2,
    "entropy": entropy,
}


def filters(method: Method) -> bool:
    """Whether only questions that the base model answers right may be neighbours."""
    return method != "no-success-filter"


def penalty(method: Method, setting: Setting) -> Penalty | None:
    """The penalty of `method`; None for router tuning, which has none."""
    if method in _TARGETS:
        return Manifold(_TARGETS[method](setting))
    return _PENALTIES[method](setting) if method in _PENALTIES else None
