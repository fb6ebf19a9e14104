"""The permuted-domain null: whether the domain has any effect on a layer's routing.

Permuted labels leave the mean contribution nearly unchanged, so they are no null for coverage or Gini. For Jaccard they
give the *ceiling*: the value for domains that do not differ, which is below 1 in a finite sample.

Shapes: S samples, D domains, E experts, P permutations.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.auditing.evidence.bootstrap import Clusters, Level
from turnout.auditing.measures import MEASURES, Routing

PERMUTATIONS = 199
_BLOCK = 16  # permutations whose one-hot labels are in memory together


def domain_signal(
    values_SE: Tensor,
    scores_SE: Tensor | None,
    frequency_SE: Tensor,
    clusters: Clusters,
    k: int,
    *,
    seed: int,
    n: int = PERMUTATIONS,
) -> dict[str, Any] | None:
    """Test mutual information and silhouette against permuted domain labels; ceilings of measures that have this null.

    Args:
        values_SE: values whose domain means are the contributions.
        scores_SE: p, for the silhouette; without p it is None.
        frequency_SE: how often each sample chose each expert.
        clusters: the samples' domains and subjects.
        k: the layer's K.
        seed: seed for the permutations.
        n: number of permutations.

    Returns:
        `mutual_information` (bits, between domain and chosen expert) and `silhouette`, each with value, null_mean,
        null_q95 and p (one-sided); `jaccard_ceiling`, and `jaccard_ratio`, the Jaccard mean over it; `permuted`
        ("subjects" or "samples"); `draws`. None if there is only one domain.
    """
    if clusters.n_domains < 2:
        return None
    labels_PS, permuted = permutations(clusters, n, np.random.default_rng(seed))
    labels_PS = np.concatenate([clusters.domain_S[None], labels_PS])  # the true labels first
    chosen_PDE = _domain_sums(frequency_SE, labels_PS, clusters.n_domains)
    size_PD1 = torch.from_numpy(_sizes(labels_PS, clusters.n_domains))[:, :, None]
    contribution_PDE = _domain_sums(values_SE, labels_PS, clusters.n_domains) / size_PD1
    silhouette_P = None if scores_SE is None else _silhouettes(scores_SE, labels_PS, clusters.n_domains)
    return {
        "mutual_information": _test(ops.mutual_information(chosen_PDE)),
        "silhouette": None if silhouette_P is None else _test(silhouette_P),
        **_ceilings(contribution_PDE, k),
        "permuted": permuted,
        "draws": n,
    }


def _ceilings(contribution_PDE: Tensor, k: int) -> dict[str, float | None]:
    """For each measure that has this null, its mean under permuted labels, and its value over that mean."""
    ceilings: dict[str, float | None] = {}
    for measure in MEASURES.values():
        if measure.permuted is not None:
            value_P = measure.values(Routing(contribution_PDE, k))
            undefined = bool(value_P.isnan().any())
            ceiling = None if undefined else value_P[1:].mean().item()
            ceilings[f"{measure.permuted}_ceiling"] = ceiling
            ceilings[f"{measure.permuted}_ratio"] = value_P[0].item() / ceiling if ceiling else None
    return ceilings


def permutations(clusters: Clusters, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Level]:
    """Permuted domain labels, [P, S], and whether subjects or samples were permuted.

    Whole subjects change domain, since the questions of a subject are not independent; each domain keeps its number of
    subjects. If a domain has only one subject, that would move whole domains, so samples are permuted instead.
    """
    subjects = [clusters.subjects(d) for d in range(clusters.n_domains)]
    if min(map(len, subjects)) < 2:
        return np.stack([rng.permutation(clusters.domain_S) for _ in range(n)]), "samples"
    blocks = [rows for in_domain in subjects for rows in in_domain]
    domain_J = np.repeat(np.arange(clusters.n_domains), [len(in_domain) for in_domain in subjects])
    block_S = np.empty(len(clusters.domain_S), np.int64)
    for j, rows in enumerate(blocks):
        block_S[rows] = j
    return np.stack([rng.permutation(domain_J)[block_S] for _ in range(n)]), "subjects"


def _sizes(labels_PS: NDArray[np.int64], n_domains: int) -> NDArray[np.int64]:
    return np.stack([np.bincount(labels, minlength=n_domains) for labels in labels_PS])


def _domain_sums(values_SE: Tensor, labels_PS: NDArray[np.int64], n_domains: int) -> Tensor:
    """Sum of `values_SE` over each permuted domain's samples, [P, D, E]."""
    sums = []
    for start in range(0, len(labels_PS), _BLOCK):
        labels = torch.from_numpy(labels_PS[start : start + _BLOCK])
        member_PDS = torch.nn.functional.one_hot(labels, n_domains).mT.to(values_SE.dtype)
        sums.append(member_PDS @ values_SE)
    return torch.cat(sums)


def _silhouettes(scores_SE: Tensor, labels_PS: NDArray[np.int64], n_domains: int) -> Tensor:
    """Mean silhouette of all samples under each labeling, [P]."""
    parts = torch.from_numpy(labels_PS).split(_BLOCK)
    return torch.cat([ops.labelled_silhouette(scores_SE, labels, n_domains).mean(1) for labels in parts])


def _test(value_P: Tensor) -> dict[str, float]:
    """One-sided test of the value under the true labels, first, against the permuted ones."""
    value, null_P = value_P[0].item(), value_P[1:].double()
    return {
        "value": value,
        "null_mean": null_P.mean().item(),
        "null_q95": torch.quantile(null_P, 0.95).item(),
        "p": (1 + int((null_P >= value).sum())) / (1 + len(null_P)),
    }
