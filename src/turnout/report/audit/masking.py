"""Masking runs as data: what masking a set of experts cost, beside its controls."""

from collections.abc import Mapping
from typing import Any

from turnout.report.audit.stored import StoredRun

MEASURES = {
    "accuracy": "Accuracy: drop",
    "logprob": "Log-probability of the answer: drop (nats)",
    "generated": "Written answers right: drop",
    "bits_per_byte": "Bits per byte: rise",
}


def bars(run: StoredRun) -> list[dict[str, Any]]:
    """One entry a masking run and measure: title and rows, a row for each target and set.

    A row holds layer, set, size, drop with interval, effect with interval, predicted, extrapolated, fallback, and of
    the controls random and matched (mean, q05, q95, p) and least; None where there are none.
    """
    return [
        {"title": title, "measure": measure, "renormalise": bool(found["config"].get("renormalise")), "rows": rows}
        for found in run.masking
        for measure, title in MEASURES.items()
        if (rows := _rows(found, measure))
    ]


def _rows(found: Mapping[str, Any], measure: str) -> list[dict[str, Any]]:
    return [
        _row(target, masked, masked["measures"][measure])
        for target in found["targets"]
        for masked in target["sets"]
        if measure in masked["measures"]
    ]


def _row(target: Mapping[str, Any], masked: Mapping[str, Any], effect: Mapping[str, Any]) -> dict[str, Any]:
    plain = ("drop", "interval", "effect", "effect_interval", "predicted", "extrapolated", "level")
    return {
        "layer": str(target["layer"]),
        "set": masked["set"],
        "size": masked["size"],
        "mass": masked["removed_mass"],
        "fallback": bool(target.get("fallback")),
        **{name: effect[name] for name in plain},
        **{kind: _control(effect.get(kind)) for kind in ("random", "matched")},
        "least": effect.get("least_drop"),
    }


def _control(control: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if control is None or not control["sets"]:
        return None
    return {"mean": control["mean_drop"], **{name: control[name] for name in ("sets", "q05", "q95", "p")}}


def sentence(entry: Mapping[str, Any]) -> str:
    """What a masking run found by one measure: the effects whose interval leaves out 0, and how many were asked for."""
    rows = [row for row in entry["rows"] if row["effect_interval"] is not None]
    sure = [row for row in rows if not row["effect_interval"][0] <= 0 <= row["effect_interval"][1]]
    read = [row for row in sure if not row["extrapolated"]]
    more = sum(row["effect"] > 0 for row in read)
    beyond = len(sure) - len(read)
    left = f" {beyond} more lie beyond the controls’ mass and are not to be read." if beyond else ""
    return (
        f"{more} of {len(rows)} sets cost more than the periphery predicts at the same removed mass, "
        f"{len(read) - more} less, with an interval (95 %, each by itself) that leaves out 0.{left}"
    )
