"""Masking runs of an audit as data: the cost of masking a set of experts, beside the cost of its controls."""

from collections.abc import Mapping
from typing import Any

from turnout.report.audit.stored import StoredRun

MEASURES = {
    "accuracy": "Accuracy: drop",
    "logprob": "Log-probability of the answer: drop (nats)",
    "generated": "Accuracy of generated answers: drop",
    "bits_per_byte": "Bits per byte: rise",
}
"""What masking.json measures → title of its figure."""


def bars(run: StoredRun) -> list[dict[str, Any]]:
    """One entry for each masking run and measure: title, and a row for each target and masked set.

    A row has layer, set, size, drop with interval, effect with interval, predicted, extrapolated, fallback; of the
    controls random and matched mean, q05, q95 and p; and least, the drop of the least used experts. None where absent.
    """
    return [
        {"title": title, "measure": measure, "renormalise": bool(content["config"].get("renormalise")), "rows": rows}
        for content in run.masking
        for measure, title in MEASURES.items()
        if (rows := _rows(content, measure))
    ]


def _rows(content: Mapping[str, Any], measure: str) -> list[dict[str, Any]]:
    return [
        _row(target, masked, masked["measures"][measure])
        for target in content["targets"]
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
        **{control: _control(effect.get(control)) for control in ("random", "matched")},
        "least": effect.get("least_drop"),
    }


def _control(control: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if control is None or not control["sets"]:
        return None
    return {"mean": control["mean_drop"], **{name: control[name] for name in ("sets", "q05", "q95", "p")}}


def sentence(entry: Mapping[str, Any]) -> str:
    """Result of a masking run by one measure: how many sets have an effect whose interval excludes 0."""
    rows = [row for row in entry["rows"] if row["effect_interval"] is not None]
    clear = [row for row in rows if not row["effect_interval"][0] <= 0 <= row["effect_interval"][1]]
    within = [row for row in clear if not row["extrapolated"]]
    more = sum(row["effect"] > 0 for row in within)
    beyond = len(clear) - len(within)
    excluded = f" {beyond} more remove more mass than any control and are not counted." if beyond else ""
    return (
        f"{more} of {len(rows)} masked sets cost more than other experts of the same gate mass, {len(within) - more} "
        f"cost less (95 % interval of the effect excludes 0, each set by itself).{excluded}"
    )
