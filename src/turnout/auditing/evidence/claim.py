"""Claim of a standing committee in one layer, with its tests. Ours; docs/methods/evidence.md#the-claim.

CommitteeAudit (arXiv 2601.03425) states that a standing committee receives the majority of the routing in every
domain. Here that is four statements, each of which can fail, with thresholds fixed before any model was examined:

- invariant: the core set covers in every domain at least 0.8 of what it covers on average;
- compact: there is a core set without the fallback rule, of at most K experts;
- core: invariant, compact, and its coverage is above both |C|/E and the rotated router's 95 % quantile;
- dominant committee: core, and its coverage is above 0.5.

The core set is all candidates. It is chosen on a random half of each subject's samples and tested on the other half, so
that the selection cannot bias the test. Every comparison uses a one-sided lower 95 % bound.

Shapes: S samples, D domains, E experts, R resamples, C experts of the core set.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.auditing.evidence.bootstrap import Clusters, resample, resampled_means

INVARIANCE = 0.8
MAJORITY = 0.5
ALPHA = 0.05
_CORE = ("invariant", "compact", "above_floor", "above_rotated")
_ALL = (*_CORE, "majority")


def claim(
    values_SE: Tensor,
    clusters: Clusters,
    k: int,
    *,
    presence: float,
    rotated: NDArray[np.float64] | None,
    seed: int,
    n: int = 1000,
) -> dict[str, Any]:
    """Test the claim on one layer.

    Args:
        values_SE: each sample's contributions (p, its choice frequency or its applied weights).
        clusters: the samples' domains and subjects.
        k: the layer's K.
        presence: least share of domains in which a candidate is among the first K.
        rotated: [E] 95 % quantile of the coverage of a rotated router's m largest experts, m = 1…E; None if it was not
            computed, and then no core can be claimed.
        seed: seed for the halves and the resamples.
        n: number of resamples.

    Returns:
        `verdict` ("dominant committee", "core", "none" or "cannot tell"), `core_set`, `parts` (each with its value,
        lower bound, threshold, p and whether it passed; None if it could not be tested), `failed` (names of parts),
        `reason` (why it cannot be decided) and `level`.
    """
    rng = np.random.default_rng(seed)
    choosing, testing = halves(clusters, rng)
    level = clusters.overall_level()
    if any(len(np.unique(clusters.domain_S[half])) < clusters.n_domains for half in (choosing, testing)):
        return _unknown("a domain has too few samples to choose on one half and test on the other", level)
    chosen_DE = ops.contribution(
        values_SE[torch.from_numpy(choosing)], torch.from_numpy(clusters.domain_S[choosing]), clusters.n_domains
    )
    candidate_E, _, fallback = ops.membership(chosen_DE, k, presence)
    core_C = candidate_E.nonzero().flatten()
    test_clusters = clusters.take(testing)
    drawn_RDE = _test_half(values_SE[torch.from_numpy(testing)], test_clusters, n, rng)
    parts = _parts(drawn_RDE, core_C, k, bool(fallback), rotated)
    return {**_verdict(parts), "core_set": core_C.tolist(), "parts": parts, "level": test_clusters.overall_level()}


def halves(clusters: Clusters, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sample numbers of a random half of each subject, and of the rest; which half is larger is random."""
    first: list[NDArray[np.int64]] = []
    for d in range(clusters.n_domains):
        for rows in clusters.subjects(d):
            size = (len(rows) + rng.integers(2)) // 2
            first.append(rng.permutation(rows)[:size])
    chosen = np.sort(np.concatenate(first))
    return chosen, np.setdiff1d(np.arange(len(clusters.domain_S)), chosen)


def model_claim(claims: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Number of layers in which each claim holds at 5 %, after Holm's correction over layers."""
    return {
        name: {"layers": _rejected([_p_value(claim["parts"], parts) for claim in claims]), "of": len(claims)}
        for name, parts in (("core", _CORE), ("dominant committee", _ALL))
    }


def _test_half(values_SE: Tensor, clusters: Clusters, n: int, rng: np.random.Generator) -> Tensor:
    """Contributions of the test half, then of each resample of it, [1 + R, D, E]."""
    own_DE = ops.contribution(values_SE, torch.from_numpy(clusters.domain_S), clusters.n_domains)
    return torch.cat([own_DE[None], resampled_means(values_SE, resample(clusters, n, rng), clusters)])


def _parts(
    drawn_RDE: Tensor, core_C: Tensor, k: int, fallback: bool, rotated: NDArray[np.float64] | None
) -> dict[str, dict[str, Any] | None]:
    size, n_experts = len(core_C), drawn_RDE.shape[-1]
    covered_R = ops.coverage(drawn_RDE, core_C)
    by_domain_RD = drawn_RDE[..., core_C].sum(-1) / drawn_RDE.sum(-1)
    covers_R = covered_R > 0  # a core set that the other half never chose is not invariant
    least_R = by_domain_RD.amin(1) / covered_R.where(covers_R, 1)
    return {
        "invariant": _part(least_R, INVARIANCE),
        "compact": {
            "value": size,
            "lower": None,
            "threshold": k,
            "p": None,
            "passed": not fallback and size <= k,
            "fallback": fallback,
        },
        "above_floor": _part(covered_R, size / n_experts),
        "above_rotated": None if rotated is None else _part(covered_R, float(rotated[size - 1])),
        "majority": _part(covered_R, MAJORITY),
    }


def _part(values_R: Tensor, threshold: float) -> dict[str, Any]:
    """One-sided test that a figure is above `threshold`, from its value, first, and its values in resamples."""
    drawn_R = values_R[1:].double()
    lower = torch.quantile(drawn_R, ALPHA).item()
    p = (1 + int((drawn_R <= threshold).sum())) / (1 + len(drawn_R))
    return {"value": values_R[0].item(), "lower": lower, "threshold": threshold, "p": p, "passed": lower > threshold}


def _verdict(parts: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    failed = [name for name in _CORE if (part := parts[name]) is not None and not part["passed"]]
    majority = parts["majority"]
    assert majority is not None
    if failed:
        return {"verdict": "none", "failed": failed, "reason": None}
    if parts["above_rotated"] is None:
        return {"verdict": "cannot tell", "failed": [], "reason": "the rotated-router null was not computed"}
    if majority["passed"]:
        return {"verdict": "dominant committee", "failed": [], "reason": None}
    return {"verdict": "core", "failed": ["majority"], "reason": None}


def _unknown(reason: str, level: str) -> dict[str, Any]:
    return {
        "verdict": "cannot tell",
        "failed": [],
        "reason": reason,
        "core_set": [],
        "parts": dict.fromkeys(_ALL),
        "level": level,
    }


def _p_value(parts: dict[str, dict[str, Any] | None], needed: Sequence[str]) -> float:
    """The largest p of the parts, since all must hold; 1 if one was not tested or failed without a test."""
    values = []
    for part in (parts[name] for name in needed):
        if part is None or (part["p"] is None and not part["passed"]):
            return 1.0
        values.append(part["p"] or 0.0)
    return max(values)


def _rejected(p_values: Sequence[float]) -> int:
    """Number of hypotheses that Holm's step-down procedure rejects at 5 %."""
    if not p_values:
        return 0
    return int((ops.holm(torch.tensor(p_values, dtype=torch.float64)) <= ALPHA).sum())
