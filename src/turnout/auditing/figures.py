"""From contributions to a layer's figures, as audit.json holds them. Shape suffixes: E routed experts, D domains."""

import math
from typing import TypedDict

import torch
from torch import Tensor

from turnout import ops
from turnout.runs import TraceLayer

MEASURES = ("jaccard_mean", "gini", "gini_topk", "coverage", "coverage_topk", "influence_ratio")


class LayerAudit(TypedDict):
    """One layer of audit.json; an undefined figure is None."""

    layer: int
    experts: int
    top_k: int
    shared: int
    committee: list[int]
    mean_rank: list[float]
    rank_variance: list[float]
    presence: list[float]
    candidates: list[int]
    fallback: bool
    coverage: float | None
    coverage_topk: float | None
    influence_ratio: float | None
    gini: float | None
    gini_topk: float | None
    jaccard_mean: float | None
    specificity: dict[str, float] | None
    intervals: dict[str, object]
    nulls: dict[str, object]
    claim: dict[str, object] | None


def layer_figures(
    layer: TraceLayer, contribution_DE: Tensor, specificity: dict[str, float] | None, presence: float
) -> LayerAudit:
    """Every figure of one layer from its contributions in the chosen reading."""
    found = ops.committee(contribution_DE, layer.top_k, presence)
    measures = layer_measures(contribution_DE, layer.top_k, found.members)
    return LayerAudit(
        layer=layer.layer,
        experts=layer.experts,
        top_k=layer.top_k,
        shared=layer.shared,
        committee=found.members.tolist(),
        mean_rank=found.mean_rank.tolist(),
        rank_variance=found.rank_variance.tolist(),
        presence=found.presence.tolist(),
        candidates=found.candidates.tolist(),
        fallback=found.fallback,
        coverage=measures["coverage"],
        coverage_topk=measures["coverage_topk"],
        influence_ratio=measures["influence_ratio"],
        gini=measures["gini"],
        gini_topk=measures["gini_topk"],
        jaccard_mean=measures["jaccard_mean"],
        specificity=specificity,
        intervals={},
        nulls={"floors": floors(layer, len(found.members))},
        claim=None,
    )


def layer_measures(contribution_DE: Tensor, k: int, members: Tensor) -> dict[str, float | None]:
    """The figures of `MEASURES`.

    None where undefined: `jaccard_mean` of one domain; `gini_topk` where a domain, and all that are shares where every
    domain, has no contribution at all (`released` of a single sample); `influence_ratio` where the others hold nothing.
    """
    n_experts = contribution_DE.shape[1]
    held_D = contribution_DE.sum(1)
    measures: dict[str, float | None] = dict.fromkeys(MEASURES)
    if len(contribution_DE) > 1:
        measures["jaccard_mean"] = jaccard_mean(contribution_DE, k).item()
    if bool((held_D > 0).all()):
        measures["gini_topk"] = ops.gini_topk(contribution_DE, k).item()
    if bool((held_D > 0).any()):
        share = ops.coverage(contribution_DE, members)
        ratio = ops.influence_ratio(share, len(members), n_experts).item()
        measures["gini"] = ops.gini(contribution_DE.mean(0)).item()
        measures["coverage"] = share.item()
        measures["coverage_topk"] = ops.coverage_topk(contribution_DE, members, k).item()
        measures["influence_ratio"] = ratio if math.isfinite(ratio) else None
    return measures


def jaccard_mean(contribution_DE: Tensor, k: int) -> Tensor:
    """Mean Jaccard similarity over the pairs of two different domains; leading dimensions of contributions stay."""
    jaccard_DD = ops.jaccard(contribution_DE, k)
    apart = ~torch.eye(jaccard_DD.shape[-1], dtype=torch.bool, device=jaccard_DD.device)
    return jaccard_DD[..., apart].mean(-1)


def floors(layer: TraceLayer, size: int) -> dict[str, float]:
    """What a router without any structure shows: 1 − K/E, |C|/K, |C|/E."""
    return {
        "gini_topk": 1 - layer.top_k / layer.experts,
        "coverage_topk": size / layer.top_k,
        "coverage": size / layer.experts,
    }


def overall(layers: list[dict[str, float | None]]) -> dict[str, dict[str, float | int | None]]:
    """Mean, least and largest value of each measure over the layers that define it; `undefined` counts the others."""
    return {name: _spread([layer[name] for layer in layers]) for name in MEASURES}


def _spread(values: list[float | None]) -> dict[str, float | int | None]:
    known = [value for value in values if value is not None]
    undefined = len(values) - len(known)
    if not known:
        return {"mean": None, "min": None, "max": None, "undefined": undefined}
    return {"mean": math.fsum(known) / len(known), "min": min(known), "max": max(known), "undefined": undefined}
