"""The claim of a standing committee in sentences, and the parts and nulls of each layer, for page and terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from turnout.report.kit.text import counted

Claim = Mapping[str, Any]

SYMBOLS = {"dominant committee": "◆", "core": "●", "none": "·", "cannot tell": "?"}
PARTS = {
    "invariant": "Lowest coverage of a domain / mean coverage",
    "compact": "Experts in the core set, at most K",
    "above_floor": "Coverage above the floor |C|/E",
    "above_rotated": "Coverage above that of a rotated router",
    "majority": "Coverage above one half",
}
_FAILED = {
    "invariant": "the core set covers too little in some domain",
    "compact": "no core set has at most K experts",
    "above_floor": "the core set covers no more than under equal contributions",
    "above_rotated": "a rotated, untrained router covers as much on the same inputs",
}


def headline(audit: Mapping[str, Any]) -> str:
    """The result for the whole model, in one sentence."""
    claim, claims = audit.get("claim"), _claims(audit)
    if not claim or not claims:
        return "No claim: contributions of this kind are not tested."
    core, dominant, n_layers = claim["core"]["layers"], claim["dominant committee"]["layers"], claim["core"]["of"]
    if any(layer_claim["verdict"] == "cannot tell" for layer_claim in claims):
        return f"A core committee in {core} of {n_layers} layers; in some layers the tests cannot tell."
    if not core:
        return f"No standing committee in any of {n_layers} layers."
    if not dominant:
        return f"A core committee in {core} of {n_layers} layers; in none of them it receives most of the routing."
    return f"A core committee in {core} of {n_layers} layers; in {dominant} of them it receives most of the routing."


def details(audit: Mapping[str, Any]) -> list[str]:
    """Which parts of the claim fail in how many layers, and what the tests resample; a sentence each."""
    claims = _claims(audit)
    if not claims:
        return []
    failed = Counter(part for claim in claims for part in claim["failed"] if part in _FAILED)
    reasons = Counter(claim["reason"] for claim in claims if claim["reason"])
    return [
        *_uncorrected(audit),
        *(f"In {counted(n, 'layer')} {_FAILED[part]}." for part, n in failed.most_common()),
        *(f"In {counted(n, 'layer')}: {reason}." for reason, n in reasons.most_common()),
        _level(claims),
    ]


def claim_lines(audit: Mapping[str, Any]) -> list[str]:
    """Headline and details, a line each, for a terminal."""
    return [headline(audit), *details(audit)]


def verdict(audit: Mapping[str, Any]) -> str | None:
    """The strongest verdict that holds for the model; None where no claim is made."""
    claims = _claims(audit)
    if not claims:
        return None
    for name in ("dominant committee", "core"):
        if audit["claim"][name]["layers"]:
            return name
    return "cannot tell" if any(claim["verdict"] == "cannot tell" for claim in claims) else "none"


def parts(layer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of one layer's claim: name, value, lower bound, threshold, p and outcome (None: untested)."""
    claim = layer.get("claim")
    if not claim:
        return []
    columns = ("value", "lower", "threshold", "p", "passed")
    return [
        {"name": text, **{column: (claim["parts"][part] or {}).get(column) for column in columns}}
        for part, text in PARTS.items()
    ]


def nulls(layer: Mapping[str, Any]) -> list[str]:
    """The values of one layer's nulls, a sentence each."""
    lines = []
    signal, rotated = layer["nulls"].get("domain_signal"), layer["nulls"].get("rotated")
    if signal:
        mutual = signal["mutual_information"]
        lines.append(
            f"Mutual information of domain and chosen expert: {mutual['value']:.3f} bits; with permuted "
            f"{signal['permuted']} {mutual['null_mean']:.3f} on average (p = {mutual['p']:.3g})."
        )
        lines.append(f"Ceiling of Jaccard, with permuted domains: {signal['jaccard_ceiling']:.3f}.")
    if rotated and "gini" in rotated:
        lines.append(
            f"Gini of rotated routers: {rotated['gini']['mean']:.3f} on average, 95 % of {rotated['draws']} draws "
            f"below {rotated['gini']['q95']:.3f}."
        )
    elif rotated:
        lines.append(f"Rotated router: {rotated['reason']}.")
    return lines


def _uncorrected(audit: Mapping[str, Any]) -> list[str]:
    """The layers that pass without the correction for the number of layers."""
    passed: dict[str, list[int]] = {"dominant committee": [], "core": []}
    for layer in audit["layers"]:
        if (layer.get("claim") or {}).get("verdict") in passed:
            passed[layer["claim"]["verdict"]].append(layer["layer"])
    listed = [f"{name} in {_numbers(layers)}" for name, layers in passed.items() if layers]
    return [f"Each layer by itself, at 5 %: {'; '.join(listed)}."] if listed else []


def _numbers(layers: Sequence[int], longest: int = 12) -> str:
    more = f" and {len(layers) - longest} more" if len(layers) > longest else ""
    return f"{'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, layers[:longest]))}{more}"


def _level(claims: Sequence[Claim]) -> str:
    by_subject = all(claim["level"] == "subjects" for claim in claims)
    resampled = "subjects" if by_subject else "single samples, since some domain has fewer than ten subjects"
    return f"Tests and intervals resample {resampled}. Numbers of layers are after Holm's correction at 5 %."


def _claims(audit: Mapping[str, Any]) -> Sequence[Claim]:
    return [layer["claim"] for layer in audit["layers"] if layer.get("claim")]
