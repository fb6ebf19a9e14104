"""The budget sweep as data: committee, coverage and retention at other numbers of chosen experts."""

from typing import Any

from turnout.report.audit.stored import StoredRun

CURVES = {
    "retention": "Retention",
    "coverage": "Coverage",
    "influence_ratio": "Influence ratio",
    "committee_size": "Committee size",
}


def curves(run: StoredRun) -> dict[str, Any] | None:
    """Means over layers by K, as audit.json holds them: {"k", "own_k", "modes": {mode: {measure: […]}}, "missing"}."""
    found = run.audit.get("budgets")
    if found is None:
        return None
    modes = list(dict.fromkeys(curve["mode"] for curve in found["curves"]))
    return {
        "k": found["k"],
        "own_k": found["own_k"],
        "names": CURVES,
        "modes": {mode: {name: _along(found, mode, name) for name in CURVES} for mode in modes},
        "missing": found["rerun"]["missing"],
    }


def _along(found: dict[str, Any], mode: str, name: str) -> list[float | None]:
    by_k = {curve["k"]: curve[name] for curve in found["curves"] if curve["mode"] == mode}
    return [by_k.get(k) for k in found["k"]]
