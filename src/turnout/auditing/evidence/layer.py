"""What stands behind a layer's figures: their intervals, their nulls and the claim. Always computed.

Shapes: S samples, E routed experts, D domains.
"""

from collections.abc import Sequence
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
from turnout.auditing.evidence.rotated import quantile_by_size, rotated_contributions, summary
from turnout.auditing.evidence.routers import Router
from turnout.auditing.figures import LayerAudit
from turnout.auditing.reading import LayerValues
from turnout.runs import TraceLayer

_SAME_SCORES = 0.02  # stored inputs are in half precision, and the model may score in bfloat16


@dataclass(frozen=True, eq=False)
class Evidence:
    """One layer's `intervals`, `nulls` and `claim` for audit.json, and what each expert's figures rest on.

    `candidate_share_E` and `member_share_E` are stabilities, `bounds_2DE` the ends of the contributions' intervals.
    """

    intervals: dict[str, Any]
    nulls: dict[str, Any]
    claim: dict[str, Any] | None
    candidate_share_E: Tensor
    member_share_E: Tensor
    bounds_2DE: Tensor


def layer_evidence(
    layer: TraceLayer,
    figures: LayerAudit,
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
        figures: its figures, whose committee the intervals are of.
        values: its samples' values, of the kept domains' samples only.
        contribution_DE: the figures' own contributions.
        router: its rows, if they were stored.
        resamples: the same for every layer.
        names: the kept domains' names.
        config: what is measured.
    """
    clusters, members = resamples.clusters, torch.tensor(figures["committee"])
    resampled_RDE = resampled_contributions(values, resamples, config.kind)
    rotated_PDE, why_not = _rotated(layer, values, router, clusters, config)
    candidate_E, member_E = stability(resampled_RDE, layer.top_k, config.presence)
    bounds = intervals(contribution_DE, resampled_RDE, layer.top_k, members, clusters.overall_level())
    if figures["specificity"] is not None and values.scores_SE is not None:
        of_kept = {name: figures["specificity"][name] for name in names}
        bounds["specificity"] = specificity_intervals(values.scores_SE, of_kept, resamples, names)
    nulls = {
        "floors": figures["nulls"]["floors"],
        "domain_signal": _signal(layer, values, clusters, config),
        "rotated": {"reason": why_not} if rotated_PDE is None else summary(rotated_PDE, layer.top_k),
    }
    largest = None if rotated_PDE is None else quantile_by_size(ops.largest_coverage(rotated_PDE))
    found = _claim(layer, values, clusters, config, largest)
    return Evidence(bounds, nulls, found, candidate_E, member_E, contribution_bounds(resampled_RDE))


def resampled_contributions(values: LayerValues, resamples: Resamples, kind: Kind) -> Tensor:
    """[R, D, E]: the contributions of the chosen kind in each resample.

    `released` keeps each expert's least and largest weight of a domain as found: no bootstrap knows extremes.
    """
    if kind != "released":
        return resamples.means(values.of(kind))
    clusters = resamples.clusters
    assert values.weight_SE is not None, "released of a trace without weights"
    scaled_SE = ops.min_max_scaled(values.weight_SE, torch.from_numpy(clusters.domain_S), clusters.n_domains)
    return resamples.means(scaled_SE) * resamples.means(values.frequency_SE)


def _signal(layer: TraceLayer, values: LayerValues, clusters: Clusters, config: AuditConfig) -> dict[str, Any] | None:
    if config.kind == "released":  # no mean over samples: its values hang on the domain's least and largest weight
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
    """The rotated router's contributions [P, D, E], or the reason why there are none."""
    if config.kind != "gate" or config.scope != "last":
        return None, "defined for kind gate at the last token"
    if router is None or values.inputs_SH is None:
        return None, "not computed: the trace holds no router inputs; audit the model itself"
    assert values.scores_SE is not None, "inputs without scores"
    inputs_SH = values.inputs_SH.float()
    logits_SE = torch.nn.functional.linear(inputs_SH, router.rows_EH, router.bias_E)
    apart = (router.scores(logits_SE) - values.scores_SE).abs().max().item()
    if apart > _SAME_SCORES:
        return None, f"not computed: the router is no single linear map of its inputs (scores differ by {apart:.2g})"
    drawn = rotated_contributions(
        inputs_SH, router.rows_EH, router.bias_E, router.scores, clusters, seed=config.seed + layer.layer
    )
    return drawn.double(), None
