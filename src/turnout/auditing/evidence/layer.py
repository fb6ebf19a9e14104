"""Bootstrap intervals, nulls and claim of one layer.

Shapes: S samples, E routed experts, D domains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.auditing.config import AuditConfig, Kind
from turnout.auditing.evidence.bootstrap import (
    Clusters,
    Resamples,
    contribution_bounds,
    intervals,
    specificity_intervals,
    stability,
)
from turnout.auditing.evidence.claim import claim
from turnout.auditing.evidence.domain_signal import domain_signal
from turnout.auditing.evidence.rotated import Router, quantile_by_size, rotated_contributions, summary
from turnout.auditing.reading import LayerValues
from turnout.runs import TraceLayer

_SCORE_TOLERANCE = 0.02  # stored inputs are in half precision, and the model may score in bfloat16


@dataclass(frozen=True, eq=False)
class Evidence:
    """Evidence of one layer: `intervals`, `nulls` and `claim` for audit.json, and the evidence for single experts."""

    intervals: dict[str, Any]
    nulls: dict[str, Any]
    claim: dict[str, Any] | None
    candidate_share_E: Tensor
    """Share of resamples in which the expert is candidate."""
    member_share_E: Tensor
    """Share of resamples in which the expert is member."""
    bounds_2DE: Tensor
    """Ends of the 95 % intervals of the contributions."""


def layer_evidence(
    layer: TraceLayer,
    figures: Mapping[str, Any],
    values: LayerValues,
    contribution_DE: Tensor,
    router: Router | None,
    resamples: Resamples,
    names: Sequence[str],
    config: AuditConfig,
) -> Evidence:
    """Intervals, nulls and claim of one layer.

    Args:
        layer: the layer's numbers.
        figures: its figures; the intervals are for their committee.
        values: values of its samples in the kept domains.
        contribution_DE: the contributions that the figures were computed from.
        router: its rows, if they were stored.
        resamples: the same for every layer.
        names: names of the kept domains.
        config: kind, scope, presence and seed.
    """
    clusters, members = resamples.clusters, torch.tensor(figures["committee"])
    resampled_RDE = resampled_contributions(values, resamples, config.kind)
    rotated_PDE, reason = _rotated(layer, values, router, clusters, config)
    candidate_E, member_E = stability(resampled_RDE, layer.top_k, config.presence)
    bounds = intervals(contribution_DE, resampled_RDE, layer.top_k, members, clusters.overall_level())
    if figures["specificity"] is not None and values.scores_SE is not None:
        kept = {name: figures["specificity"][name] for name in names}
        bounds["specificity"] = specificity_intervals(values.scores_SE, kept, resamples, names)
    nulls = {
        "floors": figures["nulls"]["floors"],
        "domain_signal": _signal(layer, values, clusters, config),
        "rotated": {"reason": reason} if rotated_PDE is None else summary(rotated_PDE, layer.top_k),
    }
    largest = None if rotated_PDE is None else quantile_by_size(ops.largest_coverage(rotated_PDE))
    verdict = _claim(layer, values, clusters, config, largest)
    return Evidence(bounds, nulls, verdict, candidate_E, member_E, contribution_bounds(resampled_RDE))


def resampled_contributions(values: LayerValues, resamples: Resamples, kind: Kind) -> Tensor:
    """Contributions of the chosen kind in each resample, [R, D, E].

    `released` keeps each expert's least and largest weight in a domain: a bootstrap cannot estimate extremes.
    """
    if kind != "released":
        return resamples.means(values.of(kind))
    clusters = resamples.clusters
    assert values.weight_SE is not None, "released of a trace without weights"
    scaled_SE = ops.min_max_scaled(values.weight_SE, torch.from_numpy(clusters.domain_S), clusters.n_domains)
    return resamples.means(scaled_SE) * resamples.means(values.frequency_SE)


def _signal(layer: TraceLayer, values: LayerValues, clusters: Clusters, config: AuditConfig) -> dict[str, Any] | None:
    if config.kind == "released":  # not a mean over samples: it depends on the domain's least and largest weight
        return None
    return domain_signal(
        values.of(config.kind), values.scores_SE, values.frequency_SE, clusters, layer.top_k, seed=config.seed
    )


def _claim(
    layer: TraceLayer,
    values: LayerValues,
    clusters: Clusters,
    config: AuditConfig,
    rotated: NDArray[np.float64] | None,
) -> dict[str, Any] | None:
    if config.kind == "released":
        return None
    return claim(
        values.of(config.kind), clusters, layer.top_k, presence=config.presence, rotated=rotated, seed=config.seed
    )


def _rotated(
    layer: TraceLayer, values: LayerValues, router: Router | None, clusters: Clusters, config: AuditConfig
) -> tuple[Tensor | None, str | None]:
    """Contributions of rotated routers, [P, D, E], or the reason why they are not computed."""
    if config.kind != "gate" or config.scope != "last":
        return None, "defined for kind gate at the last token"
    if router is None or values.inputs_SH is None:
        return None, "not computed: the trace holds no router inputs; audit the model itself"
    assert values.scores_SE is not None, "inputs without scores"
    inputs_SH = values.inputs_SH.float()
    logits_SE = torch.nn.functional.linear(inputs_SH, router.rows_EH, router.bias_E)
    difference = (router.scores(logits_SE) - values.scores_SE).abs().max().item()
    if difference > _SCORE_TOLERANCE:
        return None, f"not computed: the router is not one linear map of its inputs (scores differ by {difference:.2g})"
    drawn = rotated_contributions(
        inputs_SH, router.rows_EH, router.bias_E, router.scores, clusters, seed=config.seed + layer.layer
    )
    return drawn.double(), None
