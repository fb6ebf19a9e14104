"""Intervals of a layer's figures and stability of its experts, from bootstrap resamples.

Shapes: S samples, D domains, E experts, R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.auditing.evidence.resampling import Clusters, resample, resampled_means
from turnout.auditing.measures import MEASURES, Derived, Measure, Routing, drawn_measures

RESAMPLES = 1000
CONFIDENCE = 0.95
Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Resamples:
    """The same resamples for every layer, so that layers and runs on the same questions stay paired.

    `counts_RS` holds how often each sample was drawn.
    """

    clusters: Clusters
    counts_RS: NDArray[np.int32]

    @classmethod
    def draw(cls, clusters: Clusters, seed: int, n: int = RESAMPLES) -> "Resamples":
        """`n` resamples of the clusters, the same for the same seed."""
        return cls(clusters, resample(clusters, n, np.random.default_rng(seed)))

    def means(self, values_SE: Tensor) -> Tensor:
        """[R, D, E]: the domains' means of `values_SE` in each resample."""
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
    bounds = {name: measure_interval(MEASURES[name], value_R[0].item(), value_R[1:]) for name, value_R in drawn.items()}
    size, n_experts = len(members), contribution_DE.shape[-1]
    for name, measure in MEASURES.items():
        if isinstance(measure.interval, Derived):
            bounds[name] = _derived_interval(measure.interval, bounds.get(measure.interval.source), size, n_experts)
    return {**{name: bounds.get(name) for name in MEASURES}, "level": level}


def measure_interval(measure: Measure, estimate: float, values_R: Tensor) -> Interval | None:
    """The interval of a measure from its values in resamples; None if it has none, or one derived from another's."""
    if measure.interval == "percentile":
        return percentile_interval(values_R)
    if measure.interval == "debiased":
        return debiased_interval(estimate, values_R, *measure.bounds)
    return None


def specificity_intervals(
    scores_SE: Tensor, specificity: dict[str, float], resamples: Resamples, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Each domain's interval of mean silhouette, and what it rests on."""
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
    """[2, D, E]: the ends of each contribution's middle 95 %, one domain's resamples in order at a time."""
    ends = torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], dtype=torch.float64)
    domains = [torch.quantile(of_RE.double(), ends, dim=0) for of_RE in resampled_RDE.unbind(1)]
    return torch.stack(domains, dim=1)


def stability(resampled_RDE: Tensor, k: int, presence: float) -> tuple[Tensor, Tensor]:
    """For each expert the share of resamples in which it is candidate, [E], and member of the Pareto set, [E].

    Stability, not confidence: a steadily chosen expert may be chosen steadily by mistake. A resample without any
    qualified expert (fallback) counts as holding no candidate.
    """
    candidate_RE, member_RE, fallback_R = ops.membership(resampled_RDE, k, presence)
    sound_R1 = ~fallback_R[:, None]
    return (candidate_RE & sound_R1).double().mean(0), (member_RE & sound_R1).double().mean(0)


def percentile_interval(values_R: Tensor) -> Interval:
    """The middle 95 % of the resamples."""
    tail = (1 - CONFIDENCE) / 2
    low, high = torch.quantile(values_R.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def debiased_interval(estimate: float, values_R: Tensor, least: float, most: float) -> Interval:
    """The middle 95 % of the resamples less twice their bias, kept within the figure's range.

    A resample differs from the sample as the sample from the truth: it carries the bias twice. Never without the
    estimate itself, which the correction alone would push out where figures stand at a bound (a Jaccard of 1 in nearly
    every resample), or where a domain has two samples.
    """
    low, high = percentile_interval(values_R)
    bias = values_R.double().mean().item() - estimate
    low, high = (min(max(end - 2 * bias, least), most) for end in (low, high))
    return min(low, estimate), max(high, estimate)


def _derived_interval(derived: Derived, source: Interval | None, size: int, n_experts: int) -> Interval | None:
    """The transformed ends of another measure's interval; None where an end is not finite."""
    if source is None:
        return None
    most = MEASURES[derived.source].bounds[1]  # a quantile may exceed it by rounding
    low, high = (derived.transform(min(end, most), size, n_experts).item() for end in source)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
