"""Groups of neurons that become experts: balanced clusters of neurons that are active on the same tokens.

MoEfication (arXiv 2110.01786) §3.2 cuts the co-activation graph, or clusters the first matrix's columns by balanced
k-means. Here both features are clustered by one balanced spherical k-means.

Shapes: I neurons, D features of one, E groups, W = I/E neurons of a group, T tokens.
"""

import torch
from torch import Tensor
from torch.nn import functional

_ROUNDS = 20


def coactivation(contribution_TI: Tensor) -> Tensor:
    """Features of neurons [I, T]: the size of their contribution on each token.

    `contribution_TI` is a neuron's activation times the norm of its column of the down projection. The cosine of two
    rows is the neurons' co-activation, weighted by size, since a gated network's neurons are never exactly 0.
    """
    return contribution_TI.abs().T.contiguous()


def random_groups(neurons: int, n_groups: int, generator: torch.Generator) -> Tensor:
    """Random groups of equal size, [E, W]; neurons in ascending order."""
    return torch.randperm(neurons, generator=generator).view(n_groups, -1).sort(1).values


def balanced_groups(features_ID: Tensor, n_groups: int, generator: torch.Generator) -> Tensor:
    """Groups of equal size, [E, W], of neurons with similar features (cosine); neurons in ascending order.

    Spherical k-means: pairs of neuron and center are assigned in order of similarity, as long as the group has room.
    The round with the greatest similarity of neurons to their centers is returned.
    """
    unit_ID = functional.normalize(features_ID, dim=1)
    center_ED = unit_ID[_spread(unit_ID, n_groups, generator)]
    best_I, best = torch.empty(0), float("-inf")
    for _ in range(_ROUNDS):
        group_I = _assign(unit_ID @ center_ED.T)
        sums_ED = torch.zeros_like(center_ED).index_add_(0, group_I, unit_ID)
        # Σ over neurons of the cosine with their own group's mean direction.
        value = float(sums_ED.norm(dim=1).sum())
        if value <= best:
            break
        best_I, best, center_ED = group_I, value, functional.normalize(sums_ED, dim=1)
    return best_I.argsort(stable=True).view(n_groups, -1)


def _spread(unit_ID: Tensor, n_groups: int, generator: torch.Generator) -> list[int]:
    """Initial centers: neurons drawn with a probability that grows with the distance from those before (k-means++)."""
    chosen = [int(torch.randint(len(unit_ID), (1,), generator=generator))]
    nearest_I = unit_ID @ unit_ID[chosen[0]]
    while len(chosen) < n_groups:
        weight_I = (1 - nearest_I).clamp_min(1e-6).cpu()
        weight_I[chosen] = 0
        chosen.append(int(torch.multinomial(weight_I, 1, generator=generator)))
        nearest_I = torch.maximum(nearest_I, unit_ID @ unit_ID[chosen[-1]])
    return chosen


def _assign(similarity_IE: Tensor) -> Tensor:
    """Group of each neuron [I], I/E neurons in each."""
    n_neurons, n_groups = similarity_IE.shape
    room = [n_neurons // n_groups] * n_groups
    group = [-1] * n_neurons
    for pair in similarity_IE.reshape(-1).argsort(descending=True, stable=True).tolist():
        neuron, at = divmod(pair, n_groups)
        if group[neuron] < 0 and room[at] > 0:
            group[neuron], room[at] = at, room[at] - 1
    return torch.tensor(group, device=similarity_IE.device)
