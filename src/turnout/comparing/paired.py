"""Resamples of two runs, and intervals of the differences of their measures.

Runs on the same questions are resampled together: the same subjects and samples are drawn for both, so that variation
shared through the questions cancels. Other runs are resampled separately, and `paired` is then false.

Shapes: D domains, E experts, R resamples.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from turnout import ops
from turnout.auditing.config import Kind
from turnout.auditing.evidence.bootstrap import Clusters, Resamples, debiased_interval, percentile_interval
from turnout.auditing.evidence.layer import resampled_contributions
from turnout.auditing.measures import Measure
from turnout.auditing.reading import LayerValues, read_values
from turnout.comparing.side import Side
from turnout.runs import TraceLayer


@dataclass(frozen=True, eq=False)
class Pair:
    """Resamples of two runs; `reason` states why there are none."""

    resamples: tuple[Resamples, Resamples] | None
    paired: bool
    reason: str | None

    def describe(self) -> dict[str, Any]:
        """The entry of the result: paired, level and draws, or the reason why there are no intervals."""
        if self.resamples is None:
            return {"paired": False, "level": None, "draws": 0, "reason": self.reason}
        levels = {one.clusters.overall_level() for one in self.resamples}
        level = "subjects" if levels == {"subjects"} else "samples"
        return {"paired": self.paired, "level": level, "draws": len(self.resamples[0].counts_RS), "reason": None}


def pair(reference: Side, other: Side) -> Pair:
    """Resamples of both runs, shared if they have the same questions in the same domains."""
    for side in (reference, other):
        if side.trace is None:
            return Pair(None, False, f"{side.name} contains no trace")
    for what in ("kind", "scope"):
        if reference.audit[what] != other.audit[what]:
            return Pair(None, False, f"different {what}: the figures are not comparable")
    assert reference.clusters is not None
    assert other.clusters is not None
    first = Resamples.draw(reference.clusters, reference.config.seed)
    if same_questions(reference, other):
        return Pair((first, first), True, None)
    return Pair((first, Resamples.draw(other.clusters, reference.config.seed + 1)), False, None)


def same_questions(reference: Side, other: Side) -> bool:
    """Whether both have the same samples of the same subjects, in the same domains and order."""
    if reference.samples is None or other.samples is None or reference.kept != other.kept:
        return False
    return reference.samples.equals(other.samples)


def drawn_contribution(side: Side, layer: TraceLayer, resamples: Resamples) -> Tensor:
    """Contributions of the layer, then of each resample, [1 + R, D, E]."""
    assert side.trace is not None
    values: LayerValues = read_values(side.trace, layer, side.config.scope).take(torch.tensor(side.rows_S))
    resampled_RDE = resampled_contributions(values, resamples, side.config.kind)
    return torch.cat([_own(values, resamples.clusters, side.config.kind)[None].double(), resampled_RDE.double()])


def _own(values: LayerValues, clusters: Clusters, kind: Kind) -> Tensor:
    domain_S = torch.from_numpy(clusters.domain_S)
    if kind == "released":
        assert values.weight_SE is not None, "released of a trace without weights"
        return ops.released(values.weight_SE, domain_S, clusters.n_domains, values.frequency_SE)
    return ops.contribution(values.of(kind), domain_S, clusters.n_domains)


def difference_interval(measure: Measure, drawn_R: Tensor, difference: float) -> list[float]:
    """The middle 95 % of resampled differences of a measure; of a debiased one less twice their bias."""
    if measure.interval == "debiased":
        least, most = measure.bounds
        return list(debiased_interval(difference, drawn_R, least - most, most - least))
    return list(percentile_interval(drawn_R))
