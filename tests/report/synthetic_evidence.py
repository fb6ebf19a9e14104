"""Evidence, tokens, partners, budgets and masking of a synthetic run: invented numbers in the real shapes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from turnout.auditing.measures import describe
from turnout.runs import RunFolder

MEASURES = ("coverage", "coverage_topk", "gini", "gini_topk", "jaccard_mean", "influence_ratio")
NO_ROUTER = "not computed: the trace holds no router inputs; audit the model itself"


def add_evidence(audit: dict[str, Any], seed: int = 0, *, rotated: bool = True) -> dict[str, Any]:
    """`audit` with intervals, nulls and claims in every layer, and the model's claim."""
    draw = np.random.default_rng(seed)
    for at, layer in enumerate(audit["layers"]):
        layer["intervals"] = _intervals(layer, draw)
        layer["nulls"] |= {"domain_signal": _signal(layer, draw), "rotated": _rotated(layer, draw, rotated)}
        layer["claim"] = _claim(layer, at, len(audit["layers"]), rotated)
    verdicts = [layer["claim"]["verdict"] for layer in audit["layers"]]
    dominant, of = verdicts.count("dominant committee"), len(verdicts)
    core = dominant + verdicts.count("core")
    counts = {"core": {"layers": core, "of": of}, "dominant committee": {"layers": dominant, "of": of}}
    return audit | {"claim": counts, "budgets": _budgets(audit["layers"][0]["top_k"]), "measures": describe()}


def _intervals(layer: dict[str, Any], draw: np.random.Generator) -> dict[str, Any]:
    def around(value: float | None) -> list[float] | None:
        half = draw.uniform(0.01, 0.06)
        return None if value is None else [value * (1 - half), value * (1 + half)]

    specificity = layer["specificity"] and {
        name: {"interval": [value - 0.04, value + 0.04], "level": "samples"}
        for name, value in layer["specificity"].items()
    }
    return {name: around(layer[name]) for name in MEASURES} | {"level": "samples", "specificity": specificity}


def _signal(layer: dict[str, Any], draw: np.random.Generator) -> dict[str, Any] | None:
    if layer["jaccard_mean"] is None:
        return None

    def test(value: float) -> dict[str, float]:
        return {"value": value, "null_mean": 0.04, "null_q95": 0.06, "p": 0.005 if value > 0.06 else 0.4}

    return {
        "mutual_information": test(float(draw.uniform(0.03, 0.12))),
        "silhouette": test(float(draw.uniform(0.0, 0.12))),
        "jaccard_ceiling": min(1.0, layer["jaccard_mean"] * 1.3),
        "jaccard_ratio": 1 / 1.3,
        "permuted": "subjects",
        "draws": 199,
    }


def _rotated(layer: dict[str, Any], draw: np.random.Generator, computed: bool) -> dict[str, Any]:
    if not computed:
        return {"reason": NO_ROUTER}
    share = np.sort(draw.dirichlet(np.ones(layer["experts"]) * 3))[::-1]
    quantiles = {name: {"mean": 0.3, "q95": 0.34} for name in ("gini", "jaccard_mean")}
    return quantiles | {
        "draws": 199,
        "gini_topk": {"mean": layer["nulls"]["floors"]["gini_topk"], "q95": layer["nulls"]["floors"]["gini_topk"]},
        "coverage_of_largest_q95": np.minimum(1, np.cumsum(share)).tolist(),
    }


def _claim(layer: dict[str, Any], at: int, of: int, rotated: bool) -> dict[str, Any]:
    """Cores in the middle of the depth, one of them dominant; why the others fail changes from layer to layer."""
    passes = of // 2 - 3 <= at < of // 2 + 3
    failed = [] if passes else [("invariant", "compact", "above_rotated")[at % 3]]
    dominant = at == of // 2

    def part(name: str, threshold: float) -> dict[str, Any]:
        sound = name not in failed and (name != "majority" or dominant)
        lower = threshold + (0.05 if sound else -0.05)
        return {"value": lower + 0.02, "lower": lower, "threshold": threshold, "p": 0.001 if sound else 0.6} | {
            "passed": sound
        }

    parts = {"invariant": part("invariant", 0.8), "above_floor": part("above_floor", 0.1)} | {
        "compact": {"value": 4, "lower": None, "threshold": layer["top_k"], "p": None}
        | {"passed": "compact" not in failed},
        "above_rotated": part("above_rotated", 0.3) if rotated else None,
        "majority": part("majority", 0.5),
    }  # fmt: skip
    verdict = "none" if failed else "dominant committee" if dominant else "core"
    reason = None
    if verdict != "none" and not rotated:
        verdict, reason = "cannot tell", "the rotated-router null was not computed"
    return {
        "verdict": verdict,
        "failed": failed or ([] if dominant or reason else ["majority"]),
        "reason": reason,
        "core_set": layer["candidates"],
        "parts": parts,
        "level": "samples",
    }


def _budgets(own: int) -> dict[str, Any]:
    ks = sorted({max(1, own // 2), own, own * 2})
    curves = [
        {"k": k, "mode": mode, "retention": 1 - abs(k - own) / (4 * own), "coverage": 0.2, "influence_ratio": 9.0}
        | {"committee_size": 2.0, "fallback_layers": 0}
        for mode in ("recut", "rerun")
        for k in ks
    ]
    return {"k": ks, "own_k": [own], "curves": curves, "rerun": {"missing": None}}


def atlas_tables(numbers: Sequence[int], widths: Sequence[int], texts: Sequence[str]) -> dict[str, pa.Table]:
    """Tokens and partners of every expert; `texts` are what the tokens read."""
    draw = np.random.default_rng(1)
    tokens = [{"token": n, "text": text, "class": "content", "count": 10 + n} for n, text in enumerate(texts)]
    top, partners, by_layer, classes = [], [], [], []
    for number, width in zip(numbers, widths, strict=True):
        for expert in range(width):
            chosen = draw.permutation(len(texts))[:6]
            top += [
                {"layer": number, "expert": expert, "by": by, "rank": rank + 1, "token": int(t), "count": 5, "z": 9.0}
                for by in ("log_odds", "count")
                for rank, t in enumerate(chosen)
            ]
            partners += [
                {"layer": number, "expert": expert, "relation": relation, "rank": rank + 1}
                | {"partner_layer": number, "partner": (expert + rank + 1) % width, "lift": 3.5 - rank}
                for relation in ("same", "previous", "earlier")
                for rank in range(3)
            ]
        by_layer += [
            {"layer": number, "token": n, "count": 10 + n, "rate": 0.3, "committee_domains": 4, "periphery_domains": 0}
            | {"invariant": "committee" if n % 2 else "periphery"}
            for n in range(len(texts))
        ]
        classes += [
            {"layer": number, "class": name, "count": 50, "committee": 10 + at, "periphery": 40}
            for at, name in enumerate(("function", "content", "punctuation"))
        ]
    tables = {"tokens": tokens, "atlas_tokens": top, "atlas_partners": partners}
    tables |= {"token_layers": by_layer, "token_classes": classes}
    return {name: pa.Table.from_pylist(rows) for name, rows in tables.items()}


def write_masking(audit: Path, identity: str | None = None) -> Path:
    """A finished masking run beside the run `audit`, of its identity unless another is given."""
    path = audit.with_name(f"{audit.name}-mask-committee-all")
    content = {
        "schema": 1,
        "audit": identity or RunFolder.read(audit).identity,
        "config": {"renormalise": False},
        "targets": [
            {"layer": "all", "fallback": [], "sets": [_masked("committee", 0.09), _masked("core", 0.02)]},
            {"layer": 1, "left_out": [{"layer": 1, "reason": "too few left"}], "sets": []},
        ],
    }
    with RunFolder.open(path, {"verb": "mask", "audit": content["audit"]}) as run:
        run.write_json("masking.json", content)
        run.finish()
    return path


def _masked(kind: str, drop: float) -> dict[str, Any]:
    control = {"sets": 99, "mean_drop": 0.01, "q05": 0.0, "q95": 0.02, "p": 0.01}
    effect = {
        "value": 0.3, "drop": drop, "interval": [drop - 0.03, drop + 0.03], "predicted": 0.02, "effect": drop - 0.02,
        "effect_interval": [drop - 0.05, drop + 0.01], "extrapolated": False, "level": "samples",
    }  # fmt: skip
    controls = {"random": control, "matched": control, "least_drop": 0.0} if kind == "committee" else {}
    return {"set": kind, "size": 3, "removed_mass": 0.2, "measures": {"accuracy": effect | controls}}
