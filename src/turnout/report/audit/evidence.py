"""Intervals and nulls of a run beside those of single measures: their level, specificity, domain signal, missing ones.

Runs from before intervals and nulls were part of an audit have none; `missing` names what is missing and why.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from turnout.report.audit.measures import Layer, Measure, measures_of


def level(layers: Sequence[Layer]) -> str | None:
    """What the intervals over all domains resample: "subjects" or "samples"; None without intervals."""
    return layers[0]["intervals"].get("level")


def specificity_interval(layer: Layer, domain: str) -> dict[str, Any] | None:
    """Interval and level of a domain's specificity in one layer, {"interval", "level"}; None where it has none."""
    return (layer["intervals"].get("specificity") or {}).get(domain)


def domain_signal(layers: Sequence[Layer], test: str) -> dict[str, Any]:
    """A test of domain labels along depth: layer numbers, values, and mean, 95 % quantile and p under permutation.

    Args:
        layers: audit.json's layers.
        test: "mutual_information" or "silhouette".

    Returns:
        One list for each column, with an entry for each layer; None where the layer was not tested.
    """
    tests = [(layer["nulls"].get("domain_signal") or {}).get(test) or {} for layer in layers]
    columns = ("value", "null_mean", "null_q95", "p")
    return {
        "layer": [layer["layer"] for layer in layers],
        **{column: [layer_test.get(column) for layer_test in tests] for column in columns},
    }


def missing(audit: Mapping[str, Any]) -> list[str]:
    """Which intervals and nulls the run does not have, and why, one sentence each."""
    layers = audit["layers"]
    if not any(layer["intervals"] for layer in layers):
        return ["No figure has an interval: the run is from before audits computed intervals."]
    notes = []
    reasons = ((layer["nulls"].get("rotated") or {}).get("reason") for layer in layers)
    notes += [f"Rotated router: {reason}." for reason in dict.fromkeys(reasons) if reason]
    if not any(layer["nulls"].get("domain_signal") for layer in layers):
        reason = "its values are not means over samples" if audit["kind"] == "released" else "there is only one domain"
        notes.append(f"No test of a domain signal and no ceiling for Jaccard: {reason}.")
    for measure in measures_of(audit):
        without = [layer["layer"] for layer in layers if _lacks_interval(layer, measure)]
        if without:
            where = ", ".join(map(str, without))
            notes.append(f"{measure.label} has no interval in layers {where}: resamples leave it without a bound.")
    return notes


def _lacks_interval(layer: Layer, measure: Measure) -> bool:
    return measure.has_interval and layer[measure.name] is not None and measure.interval(layer) is None
