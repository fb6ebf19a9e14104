"""Figures of one layer and their means over layers, as audit.json holds them.

Shapes: E routed experts, D domains.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from turnout import ops
from turnout.auditing.measures import MEASURES, Routing, floors, layer_measures
from turnout.runs import TraceLayer

LayerAudit = dict[str, Any]
"""One layer of audit.json: its numbers, committee, every measure by name (None where undefined), evidence."""

Spread = dict[str, float | int | None]


def layer_figures(
    layer: TraceLayer, contribution_DE: Tensor, specificity: dict[str, float] | None, presence: float
) -> LayerAudit:
    """Every figure of one layer from its contributions of the chosen kind; intervals, nulls and claim are added later.

    Args:
        layer: the layer's numbers.
        contribution_DE: contributions of the domains that count.
        specificity: mean silhouette of each domain; None for one domain.
        presence: least share of domains of a candidate.
    """
    committee = ops.committee(contribution_DE, layer.top_k, presence)
    routing = Routing(contribution_DE, layer.top_k, committee.members)
    return {
        "layer": layer.layer,
        "experts": layer.experts,
        "top_k": layer.top_k,
        "shared": layer.shared,
        "committee": committee.members.tolist(),
        "mean_rank": committee.mean_rank.tolist(),
        "rank_variance": committee.rank_variance.tolist(),
        "presence": committee.presence.tolist(),
        "candidates": committee.candidates.tolist(),
        "fallback": committee.fallback,
        **layer_measures(routing),
        "specificity": specificity,
        "intervals": {},
        "nulls": {"floors": floors(routing)},
        "claim": None,
    }


def overall(layers: Sequence[Mapping[str, Any]]) -> dict[str, Spread]:
    """Mean, least and largest value of each measure over the layers that define it; `undefined` counts the others."""
    return {name: _spread([layer[name] for layer in layers]) for name in MEASURES}


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    undefined = len(values) - len(known)
    if not known:
        return {"mean": None, "min": None, "max": None, "undefined": undefined}
    return {"mean": math.fsum(known) / len(known), "min": min(known), "max": max(known), "undefined": undefined}
