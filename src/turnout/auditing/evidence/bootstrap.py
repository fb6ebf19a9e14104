"""Bootstrap resamples of a trace, and the intervals and stability that they give: subjects first, then samples.

Questions of one subject resemble each other, so the subject is the unit that varies. A domain with fewer than ten
subjects holds too little information about subjects: its samples are resampled instead. Every interval carries its
`level`, subjects or samples.

Shapes: S samples, D domains, E experts, R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.auditing.measures import MEASURES, Derived, Measure, Routing, drawn_measures

FEWEST_SUBJECTS = 10
RESAMPLES = 1000
CONFIDENCE = 0.95
Level = Literal["subjects", "samples"]
Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Domain and subject of each of S samples.

    Args:
        domain_S: 0…D−1, each with a sample.
        subject_S: any integers; the same subject in two domains counts as two.
        n_domains: D.
    """

    domain_S: NDArray[np.int64]
    subject_S: NDArray[np.int64]
    n_domains: int

    def subjects(self, domain: int) -> list[NDArray[np.int64]]:
        """Sample numbers of each subject of a domain."""
        rows = np.flatnonzero(self.domain_S == domain)
        return [rows[self.subject_S[rows] == subject] for subject in np.unique(self.subject_S[rows])]

    def level(self, domain: int) -> Level:
        """What is resampled for a domain."""
        return "subjects" if len(self.subjects(domain)) >= FEWEST_SUBJECTS else "samples"

    def overall_level(self) -> Level:
        """What is resampled for a figure over all domains: subjects only where that holds in each domain."""
        return "subjects" if all(self.level(d) == "subjects" for d in range(self.n_domains)) else "samples"

    def take(self, rows: NDArray[np.int64]) -> "Clusters":
        """The clusters of some of the samples."""
        return Clusters(self.domain_S[rows], self.subject_S[rows], self.n_domains)


def resample(clusters: Clusters, n: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Number of times that each sample is drawn in each of `n` resamples, [R, S].

    A domain keeps its number of subjects, and each drawn subject its number of samples.
    """
    counts_RS = np.zeros((n, len(clusters.domain_S)), np.int32)
    for d in range(clusters.n_domains):
        groups = clusters.subjects(d)
        if clusters.level(d) == "samples":
            groups = [np.concatenate(groups)]
        times_RJ = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=n)
        for j, rows in enumerate(groups):
            # A subject drawn m times brings m independent resamples of its samples: one of m times the size.
            resample_R = np.repeat(np.arange(n), times_RJ[:, j] * len(rows))
            cells = resample_R * len(rows) + rng.integers(len(rows), size=len(resample_R))
            counts_RS[:, rows] = np.bincount(cells, minlength=n * len(rows)).reshape(n, len(rows))
    return counts_RS


def resampled_means(values_SE: Tensor, counts_RS: NDArray[np.int32], clusters: Clusters) -> Tensor:
    """Mean of `values_SE` over each domain in each resample, [R, D, E], in the values' dtype.

    Equal to `ops.contribution` of the drawn samples, copies included.
    """
    means = []
    for d in range(clusters.n_domains):
        rows = np.flatnonzero(clusters.domain_S == d)
        drawn_RS = torch.from_numpy(counts_RS[:, rows]).to(values_SE.dtype)
        means.append(drawn_RS @ values_SE[torch.from_numpy(rows)] / drawn_RS.sum(1, keepdim=True))
    return torch.stack(means, dim=1)


@dataclass(frozen=True, eq=False)
class Resamples:
    """Resamples that all layers share, so that layers and runs on the same questions stay paired.

    `counts_RS` holds the number of times that each sample is drawn.
    """

    clusters: Clusters
    counts_RS: NDArray[np.int32]

    @classmethod
    def draw(cls, clusters: Clusters, seed: int, n: int = RESAMPLES) -> "Resamples":
        """Draw `n` resamples of the clusters, the same for the same seed."""
        return cls(clusters, resample(clusters, n, np.random.default_rng(seed)))

    def means(self, values_SE: Tensor) -> Tensor:
        """Mean of `values_SE` over each domain in each resample, [R, D, E]."""
        return resampled_means(values_SE, self.counts_RS, self.clusters)


def intervals(contribution_DE: Tensor, resampled_RDE: Tensor, k: int, members: Tensor, level: str) -> dict[str, Any]:
    """95 % intervals of a layer's measures for a fixed committee, each of the kind that the table of measures names.

    Args:
        contribution_DE: the contributions that the measures are computed from.
        resampled_RDE: the contributions in each resample.
        k: the layer's K.
        members: the committee, int64 [M].
        level: what the resamples draw, "subjects" or "samples".

    Returns:
        measure → [low, high], or None where the measure is undefined or has no interval; and `level`.
    """
    both = torch.cat([contribution_DE[None].to(resampled_RDE), resampled_RDE])
    drawn = drawn_measures(Routing(both, k, members))
    bounds = {name: _interval(MEASURES[name], value_R) for name, value_R in drawn.items()}
    size, n_experts = len(members), contribution_DE.shape[-1]
    for name, measure in MEASURES.items():
        if isinstance(measure.interval, Derived):
            bounds[name] = _derived_interval(measure.interval, bounds.get(measure.interval.source), size, n_experts)
    return {**{name: bounds.get(name) for name in MEASURES}, "level": level}


def specificity_intervals(
    scores_SE: Tensor, specificity: dict[str, float], resamples: Resamples, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Interval of each domain's mean silhouette, with its level."""
    clusters = resamples.clusters
    counts_RS = torch.from_numpy(resamples.counts_RS).float()
    drawn_RD = ops.mean_silhouette(
        scores_SE.float(), torch.from_numpy(clusters.domain_S), clusters.n_domains, counts_RS
    )
    return {
        name: {
            "interval": debiased_interval(specificity[name], drawn_RD[:, d], least=-1.0, most=1.0),
            "level": clusters.level(d),
        }
        for d, name in enumerate(names)
    }


def contribution_bounds(resampled_RDE: Tensor) -> Tensor:
    """Ends of the middle 95 % of each contribution, [2, D, E]."""
    ends = torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], dtype=torch.float64)
    # One domain at a time: sorting all resamples of all domains would take D times the memory.
    domains = [torch.quantile(domain_RE.double(), ends, dim=0) for domain_RE in resampled_RDE.unbind(1)]
    return torch.stack(domains, dim=1)


def stability(resampled_RDE: Tensor, k: int, presence: float) -> tuple[Tensor, Tensor]:
    """Share of resamples in which each expert is candidate, [E], and member of the committee, [E].

    Stability, not confidence: an expert may be chosen in every resample and still be the wrong one. A resample without
    a qualified expert (fallback) has no candidate.
    """
    candidate_RE, member_RE, fallback_R = ops.membership(resampled_RDE, k, presence)
    qualified_R1 = ~fallback_R[:, None]
    return (candidate_RE & qualified_R1).double().mean(0), (member_RE & qualified_R1).double().mean(0)


def percentile_interval(values_R: Tensor) -> Interval:
    """The middle 95 % of the resamples."""
    tail = (1 - CONFIDENCE) / 2
    low, high = torch.quantile(values_R.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def debiased_interval(estimate: float, values_R: Tensor, least: float, most: float) -> Interval:
    """The middle 95 % of the resamples less twice their bias, between `least` and `most`, with the estimate inside.

    A resample differs from the sample as the sample does from the truth, so it carries the bias twice. The estimate is
    always included: where figures are at a bound (a Jaccard of 1 in nearly every resample) or a domain has two samples,
    the correction alone would exclude it.
    """
    low, high = percentile_interval(values_R)
    bias = values_R.double().mean().item() - estimate
    low, high = (min(max(end - 2 * bias, least), most) for end in (low, high))
    return min(low, estimate), max(high, estimate)


def _interval(measure: Measure, value_R: Tensor) -> Interval | None:
    """The interval of a measure from its own value, first, and its values in resamples."""
    if measure.interval == "percentile":
        return percentile_interval(value_R[1:])
    if measure.interval == "debiased":
        return debiased_interval(value_R[0].item(), value_R[1:], *measure.bounds)
    return None


def _derived_interval(derived: Derived, source: Interval | None, size: int, n_experts: int) -> Interval | None:
    """The transformed ends of another measure's interval; None where an end is not finite."""
    if source is None:
        return None
    most = MEASURES[derived.source].bounds[1]  # a quantile may exceed it by rounding
    low, high = (derived.transform(min(end, most), size, n_experts).item() for end in source)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
