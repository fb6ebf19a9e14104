"""The claim and its nulls in sentences, for the page and the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

SYMBOLS = {"dominant committee": "◆", "core": "●", "none": "·", "cannot tell": "?"}
PARTS = {
    "invariant": "Least domain's coverage over the mean",
    "compact": "Experts of the core set, at most K",
    "above_floor": "Coverage above |C|/E",
    "above_rotated": "Coverage above a rotated router's",
    "majority": "Coverage above one half",
}
_FAILED = {
    "invariant": "its coverage falls in some domain",
    "compact": "there is no compact core set",
    "above_floor": "it covers no more than equal contributions would",
    "above_rotated": "a router without training covers as much on the same inputs",
}


def headline(audit: Mapping[str, Any]) -> str:
    """What the model shows, in one sentence."""
    claim = audit.get("claim")
    if not claim or not _claims(audit):
        return "No claim: this reading of contribution carries none."
    core, dominant = claim["core"]["layers"], claim["dominant committee"]["layers"]
    of = claim["core"]["of"]
    if any(one["verdict"] == "cannot tell" for one in _claims(audit)):
        return f"Cannot tell in every layer; a core committee is shown in {core} of {of} layers."
    if not core:
        return f"No standing committee is shown in any of {of} layers."
    more = (
        f"in {dominant} of them it takes most of the routing"
        if dominant
        else "in none does it take most of the routing"
    )
    return f"A core committee is shown in {core} of {of} layers; {more}."


def details(audit: Mapping[str, Any]) -> list[str]:
    """Why, part by part, and what the figures rest on."""
    claims = _claims(audit)
    if not claims:
        return []
    failed = Counter(name for claim in claims for name in claim["failed"] if name in _FAILED)
    lines = _one_by_one(audit)
    lines += [f"In {_layers(n)} {_FAILED[name]}." for name, n in failed.most_common()]
    reasons = Counter(claim["reason"] for claim in claims if claim["reason"])
    lines += [f"In {_layers(n)}: {reason}." for reason, n in reasons.most_common()]
    level = "subjects" if all(claim["level"] == "subjects" for claim in claims) else "samples"
    lines.append(
        f"Intervals and tests rest on {level}"
        + (": some domain has fewer than ten subjects." if level == "samples" else ".")
        + " Layers are counted after Holm's correction at 5 %."
    )
    return lines


def verdict(audit: Mapping[str, Any]) -> str | None:
    """The most that may be said of the model; None where no claim is made."""
    claims = _claims(audit)
    if not claims:
        return None
    for name in ("dominant committee", "core"):
        if audit["claim"][name]["layers"]:
            return name
    return "cannot tell" if any(claim["verdict"] == "cannot tell" for claim in claims) else "none"


def _one_by_one(audit: Mapping[str, Any]) -> list[str]:
    """Which layers pass by themselves, before the number of layers is corrected for."""
    passed: dict[str, list[int]] = {"dominant committee": [], "core": []}
    for layer in audit["layers"]:
        if (layer.get("claim") or {}).get("verdict") in passed:
            passed[layer["claim"]["verdict"]].append(layer["layer"])
    said = [f"a {name} in {_numbers(layers)}" for name, layers in passed.items() if layers]
    return [f"Taken one by one, at 5 % each: {'; '.join(said)}."] if said else []


def _numbers(layers: Sequence[int], longest: int = 12) -> str:
    more = f" and {len(layers) - longest} more" if len(layers) > longest else ""
    return f"{'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, layers[:longest]))}{more}"


def claim_lines(audit: Mapping[str, Any]) -> list[str]:
    """Headline and details, a line each, for a terminal."""
    return [headline(audit), *details(audit)]


def parts(layer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of one layer's claim as rows: what, value, lower bound, threshold, p and whether it passed."""
    claim = layer.get("claim")
    if not claim:
        return []
    return [
        {
            "name": text,
            **{key: (claim["parts"][name] or {}).get(key) for key in ("value", "lower", "threshold", "p", "passed")},
        }
        for name, text in PARTS.items()
    ]


def nulls(layer: Mapping[str, Any]) -> list[str]:
    """What one layer's figures are held against, in sentences."""
    lines = []
    signal, rotated = layer["nulls"].get("domain_signal"), layer["nulls"].get("rotated")
    if signal:
        mutual = signal["mutual_information"]
        lines.append(
            f"Domain and chosen expert share {mutual['value']:.3f} bits; permuted {signal['permuted']} share "
            f"{mutual['null_mean']:.3f} (p = {mutual['p']:.3g})."
        )
        lines.append(f"Jaccard cannot be expected above {signal['jaccard_ceiling']:.3f}, that of permuted domains.")
    if rotated and "gini" in rotated:
        lines.append(
            f"A rotated router shows a Gini of {rotated['gini']['mean']:.3f} (95 % of draws below "
            f"{rotated['gini']['q95']:.3f}), over {rotated['draws']} draws."
        )
    elif rotated:
        lines.append(f"Rotated router: {rotated['reason']}.")
    return lines


def _claims(audit: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [layer["claim"] for layer in audit["layers"] if layer.get("claim")]


def _layers(n: int) -> str:
    return f"{n} layer" if n == 1 else f"{n} layers"
