"""Which neurons of a network become one expert: balanced clusters of those that are active on the same tokens.

MoEfication (arXiv 2110.01786) §3.2 cuts the co-activation graph, or clusters the first matrix's columns by balanced
k-means. Here both features go through one balanced spherical k-means.

Shapes: I neurons, D numbers that describe one, E groups, W = I/E neurons of a group, T tokens.
"""

import torch
from torch import Tensor
from torch.nn import functional

_ROUNDS = 20


def coactivation(worth_TI: Tensor) -> Tensor:
    """Neurons by when they matter [I, T]: the size of their contribution on each token.

    `worth_TI` is a neuron's value times the length of its column of the down projection. The cosine of two rows is the
    two neurons' co-activation, weighed by size: a gated network's neurons are never quite off, so none can be counted.
    """
    return worth_TI.abs().T.contiguous()


def random_groups(neurons: int, n_groups: int, generator: torch.Generator) -> Tensor:
    """Groups of equal size at random, [E, W], neurons in ascending order."""
    return torch.randperm(neurons, generator=generator).view(n_groups, -1).sort(1).values


def balanced_groups(features_ID: Tensor, n_groups: int, generator: torch.Generator) -> Tensor:
    """Groups of equal size, [E, W], of neurons with like features (cosine); neurons in ascending order.

    Spherical k-means: pairs of neuron and centre are taken from the most alike on, as long as the group has room. Of
    all rounds, the one whose neurons are most like their centres is kept.
    """
    unit_ID = functional.normalize(features_ID, dim=1)
    centre_ED = unit_ID[_spread(unit_ID, n_groups, generator)]
    best_I, best = torch.empty(0), float("-inf")
    for _ in range(_ROUNDS):
        group_I = _assign(unit_ID @ centre_ED.T)
        sums_ED = torch.zeros_like(centre_ED).index_add_(0, group_I, unit_ID)
        # Σ over neurons of the cosine with their own group's mean direction.
        value = float(sums_ED.norm(dim=1).sum())
        if value <= best:
            break
        best_I, best, centre_ED = group_I, value, functional.normalize(sums_ED, dim=1)
    return best_I.argsort(stable=True).view(n_groups, -1)


def _spread(unit_ID: Tensor, n_groups: int, generator: torch.Generator) -> list[int]:
    """Neurons to start from, each drawn with odds that grow with its distance from those before (k-means++)."""
    chosen = [int(torch.randint(len(unit_ID), (1,), generator=generator))]
    nearest_I = unit_ID @ unit_ID[chosen[0]]
    while len(chosen) < n_groups:
        odds_I = (1 - nearest_I).clamp_min(1e-6).cpu()
        odds_I[chosen] = 0
        chosen.append(int(torch.multinomial(odds_I, 1, generator=generator)))
        nearest_I = torch.maximum(nearest_I, unit_ID @ unit_ID[chosen[-1]])
    return chosen


def _assign(likeness_IE: Tensor) -> Tensor:
    """A group for each neuron [I], I/E in each."""
    n_neurons, n_groups = likeness_IE.shape
    room = [n_neurons // n_groups] * n_groups
    group = [-1] * n_neurons
    for pair in likeness_IE.reshape(-1).argsort(descending=True, stable=True).tolist():
        neuron, at = divmod(pair, n_groups)
        if group[neuron] < 0 and room[at] > 0:
            group[neuron], room[at] = at, room[at] - 1
    return torch.tensor(group, device=likeness_IE.device)
