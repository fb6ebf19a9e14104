"""What stands beside a figure: its interval and its nulls, as audit.json holds them. None where there is none.

Runs that were measured before intervals and nulls were part of an audit have neither: all is None then, and `missing`
says so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Layer = Mapping[str, Any]

MEASURES = ("coverage", "coverage_topk", "gini", "gini_topk", "jaccard_mean", "influence_ratio")
PARTS = ("invariant", "compact", "above_floor", "above_rotated", "majority")


def figure(layer: Layer, measure: str) -> dict[str, Any]:
    """A figure of one layer with all that stands beside it: value, interval, floor, rotated, ceiling."""
    return {
        "value": layer[measure],
        "interval": interval(layer, measure),
        "floor": floor(layer, measure),
        "rotated": rotated(layer, measure),
        "ceiling": ceiling(layer) if measure == "jaccard_mean" else None,
    }


def interval(layer: Layer, measure: str) -> list[float] | None:
    """The 95 % interval of a measure."""
    found = layer["intervals"].get(measure)
    return None if found is None else list(found)


def floor(layer: Layer, measure: str) -> float | None:
    """What a router without any structure shows: |C|/E, |C|/K, 1−K/E; an influence ratio of 1."""
    floors = layer["nulls"].get("floors", {})
    if measure == "influence_ratio":  # 1 exactly where coverage is |C|/E
        return 1.0 if "coverage" in floors and layer["influence_ratio"] is not None else None
    return floors.get(measure)


def rotated(layer: Layer, measure: str) -> float | None:
    """The 95 % quantile over rotated routers; of coverage: what as many of such a router's largest experts cover."""
    null = layer["nulls"].get("rotated") or {}
    if measure == "coverage":
        by_size = null.get("coverage_of_largest_q95")
        return None if by_size is None else by_size[len(layer["committee"]) - 1]
    return (null.get(measure) or {}).get("q95")


def ceiling(layer: Layer) -> float | None:
    """The Jaccard mean that domains would have if they did not differ."""
    return (layer["nulls"].get("domain_signal") or {}).get("jaccard_ceiling")


def level(layers: Sequence[Layer]) -> str | None:
    """What the intervals over all domains rest on: subjects or samples; None where there are none."""
    return layers[0]["intervals"].get("level")


def specificity_interval(layer: Layer, domain: str) -> dict[str, Any] | None:
    """A domain's interval of mean silhouette, {"interval", "level"}."""
    return (layer["intervals"].get("specificity") or {}).get(domain)


def domain_signal(layers: Sequence[Layer], test: str) -> dict[str, Any]:
    """`mutual_information` or `silhouette` along depth, each list holding one entry a layer, None where untested."""
    found = [(layer["nulls"].get("domain_signal") or {}).get(test) or {} for layer in layers]
    names = ("value", "null_mean", "null_q95", "p")
    return {"layer": [layer["layer"] for layer in layers], **{name: [of.get(name) for of in found] for name in names}}


def missing(audit: Mapping[str, Any]) -> list[str]:
    """What stands without interval or null, and why, in sentences."""
    layers = audit["layers"]
    if not any(layer["intervals"] for layer in layers):
        return ["No figure carries an interval: the run was measured before intervals were part of an audit."]
    notes = []
    why_not = ((layer["nulls"].get("rotated") or {}).get("reason") for layer in layers)
    notes += [f"Rotated router: {reason}." for reason in dict.fromkeys(why_not) if reason]
    if not any(layer["nulls"].get("domain_signal") for layer in layers):
        reason = "its values are no means over samples" if audit["kind"] == "released" else "there is one domain only"
        notes.append(f"No test of a domain signal and no ceiling for Jaccard: {reason}.")
    unbounded = [x["layer"] for x in layers if x["influence_ratio"] is not None and not interval(x, "influence_ratio")]
    if unbounded:
        notes.append("An influence ratio without an interval has no upper bound: the committee may hold everything.")
    return notes
