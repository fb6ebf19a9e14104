"""Finished runs of any size without a model: planted committees, figures computed in NumPy.

Shape suffixes: L layers, D domains, E experts, K chosen.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from report.synthetic_evidence import add_evidence, atlas_tables

from turnout.runs import RunFolder

MMLU_9 = (
    "STEM-Math",
    "STEM-Physics",
    "STEM-Chemistry",
    "STEM-BioMed",
    "CS-Eng",
    "SocSci",
    "Humanities",
    "Lang-Ling",
    "Biz-Law",
)


def contribution(n_layers: int, n_experts: int, n_domains: int, seed: int = 0) -> np.ndarray:
    """[L, D, E], rows summing to 1: a few experts strong in all domains, most in the middle layers; some by domain."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 0.7, (n_layers, 1, n_experts)) + draw.normal(0, 0.5, (n_layers, n_domains, n_experts))
    for layer in range(n_layers):
        depth = np.sin(np.pi * (layer + 0.5) / n_layers)
        chosen = draw.choice(n_experts, size=draw.integers(1, 5), replace=False)
        logits[layer, :, chosen] += 1 + 3 * depth * draw.random((len(chosen), 1))
    shares = np.exp(logits)
    return shares / shares.sum(-1, keepdims=True)


def gini(x: np.ndarray) -> float:
    return float(np.abs(x[:, None] - x[None, :]).sum() / (2 * len(x) * x.sum()))


def ranks(contribution_DE: np.ndarray, top_k: int) -> np.ndarray:
    order = np.argsort(-contribution_DE, axis=1, kind="stable")
    rank = np.full(contribution_DE.shape, top_k + 1)
    np.put_along_axis(rank, order[:, :top_k], np.arange(1, top_k + 1)[None], axis=1)
    return rank


def layer_tables(contribution_DE: np.ndarray, top_k: int) -> dict[str, object]:
    """One layer's figures, by their definitions."""
    n_domains, n_experts = contribution_DE.shape
    rank = ranks(contribution_DE, top_k)
    first = rank <= top_k
    presence = first.mean(0)
    enough = first.sum(0) >= np.ceil(0.8 * n_domains)
    fallback = not enough.any()
    candidates = np.flatnonzero(enough if not fallback else presence == presence.max())
    mean, variance = rank.mean(0), rank.var(0)

    def better(a: int, b: int) -> bool:
        different = (mean[a], variance[a]) != (mean[b], variance[b])
        return different and mean[a] <= mean[b] and variance[a] <= variance[b]

    members = [c for c in candidates if not any(better(other, c) for other in candidates)]
    members.sort(key=lambda c: (mean[c], c))
    mean_E = contribution_DE.mean(0)
    cut_DE = np.where(first, contribution_DE, 0)
    coverage = mean_E[members].sum() / mean_E.sum()
    rest = n_experts - len(members)
    jaccard = np.array([[(a & b).sum() / (a | b).sum() for b in first] for a in first])
    pairs = jaccard[np.triu_indices(n_domains, 1)]
    return {
        "rank": rank, "presence": presence, "mean_rank": mean, "rank_variance": variance, "jaccard": jaccard,
        "share": mean_E / mean_E.sum(), "lorenz": np.concatenate([[0], np.cumsum(np.sort(mean_E)) / mean_E.sum()]),
        "members": [int(m) for m in members], "candidates": [int(c) for c in candidates], "fallback": bool(fallback),
        "coverage": float(coverage), "coverage_topk": float(cut_DE.mean(0)[members].sum() / cut_DE.sum(1).mean()),
        "gini": gini(mean_E), "gini_topk": float(np.mean([gini(row) for row in cut_DE])),
        "jaccard_mean": float(pairs.mean()) if len(pairs) else None,
        "influence_ratio": float((coverage / len(members)) / ((1 - coverage) / rest)) if rest else None,
    }  # fmt: skip


def write_run(
    path: Path,
    n_layers: int = 4,
    n_experts: int | Sequence[int] = 8,
    domains: Sequence[str] = MMLU_9,
    top_k: int = 2,
    *,
    shared: int = 0,
    first_layer: int = 0,
    model_id: str = "synthetic/moe",
    accuracy: bool = False,
    seed: int = 0,
    contribution_LDE: Sequence[np.ndarray] | None = None,
    numbers: Sequence[int] | None = None,
    dropped: Sequence[str] = (),
    evidence: bool = False,
    rotated: bool = True,
    tokens: Sequence[str] = (),
    verb: str = "audit",
) -> Path:
    """Write a finished run to `path` (a folder that does not exist yet); `n_experts` may differ by layer.

    With `evidence` it has the table of measures, intervals, nulls, claims, stabilities and budgets (`rotated`: the
    rotated router among the nulls), without it is a run of before these; with `tokens` it has the tables of tokens and
    partners.
    """
    widths = [n_experts] * n_layers if isinstance(n_experts, int) else list(n_experts)
    cubes = contribution_LDE or [
        contribution(n_layers, width, len(domains), seed)[at] for at, width in enumerate(widths)
    ]
    widths = [cube.shape[1] for cube in cubes]
    kept = [place for place, name in enumerate(domains) if name not in dropped]
    figures = [layer_tables(cube[kept], top_k) for cube in cubes]
    numbers = numbers or range(first_layer, first_layer + len(cubes))
    with RunFolder.open(path, {"verb": verb, "model": model_id, "seed": seed}) as run:
        audit = _audit(numbers, cubes, figures, domains, top_k, shared, model_id, accuracy, seed)
        audit |= {"dropped_domains": list(dropped)}
        run.write_json("audit.json", add_evidence(audit, seed, rotated=rotated) if evidence else audit)
        tables = _tables(numbers, cubes, figures, domains, kept, top_k)
        if evidence:
            tables |= {"experts": _stable(tables["experts"]), "contribution": _bounded(tables["contribution"])}
        tables |= atlas_tables(numbers, widths, tokens) if tokens else {}
        for name, table in tables.items():
            run.write_table(name, table)
        run.finish(seed=seed, timings={"capture_seconds": 1.0, "capture_tokens": 1000})
    return path


def with_audit(source: Path, path: Path, audit: dict[str, object]) -> Path:
    """A finished run in `path` with the tables of the run `source` and another audit.json."""
    with RunFolder.open(path, RunFolder.read(source).inputs) as run:
        for table in sorted((source / "tables").iterdir()):
            run.write_table(table.stem, pq.read_table(table))
        run.write_json("audit.json", audit)
        run.finish()
    return path


def _audit(numbers, cubes, figures, domains, top_k, shared, model_id, accuracy, seed):
    draw = np.random.default_rng(seed + 1)
    plain = ("fallback", "coverage", "coverage_topk", "influence_ratio", "gini", "gini_topk", "jaccard_mean")
    layers = [
        {
            "layer": number, "experts": cube.shape[1], "top_k": top_k, "shared": shared, "committee": layer["members"],
            "mean_rank": [float(layer["mean_rank"][m]) for m in layer["members"]],
            "rank_variance": [float(layer["rank_variance"][m]) for m in layer["members"]],
            "candidates": layer["candidates"], **{name: layer[name] for name in plain},
            "specificity": {name: float(draw.normal(0.02, 0.05)) for name in domains} if len(domains) > 1 else None,
            "intervals": {}, "claim": None, "nulls": {"floors": {
                "coverage": len(layer["members"]) / cube.shape[1], "coverage_topk": len(layer["members"]) / top_k,
                "gini_topk": 1 - top_k / cube.shape[1]}},
        }
        for number, cube, layer in zip(numbers, cubes, figures, strict=True)
    ]  # fmt: skip
    counts = {name: int(draw.integers(5, 60)) for name in domains}
    model = {
        "id": model_id, "revision": None, "architecture": "OlmoeForCausalLM", "dtype": "bfloat16",
        "parameters": 6_919_161_856, "layers": len(layers),
        "experts": cubes[0].shape[1], "top_k": top_k, "shared": shared, "digest": "ab" * 32,
    }  # fmt: skip
    tasks = {
        "name": "mmlu-dev", "domain_map": "mmlu-9", "questions": sum(counts.values()), "digest": "cd" * 32,
        "domains": counts, "subjects": {},
    }  # fmt: skip
    share = {"accuracy": 0.4375, "correct": 7, "questions": 16, "interval": [0.23, 0.67]}
    overall = {name: _spread([layer[name] for layer in layers]) for name in plain[1:]}
    return {
        "schema": 1, "model": model, "tasks": tasks, "kind": "gate", "scope": "last", "config": {"presence": 0.8},
        "dropped_domains": [], "layers": layers, "overall": overall,
        "overall_without": {"Lang-Ling": overall} if "Lang-Ling" in domains else {},
        "accuracy": {"overall": share, "domains": dict.fromkeys(domains, share)} if accuracy else None,
    }  # fmt: skip


def _spread(values):
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "min": None, "max": None, "undefined": len(values)}
    return {
        "mean": sum(known) / len(known),
        "min": min(known),
        "max": max(known),
        "undefined": len(values) - len(known),
    }


def _tables(numbers, cubes, figures, domains, kept, top_k):
    rows = {name: [] for name in ("contribution", "ranks", "experts", "jaccard", "lorenz")}
    names = [domains[place] for place in kept]
    for number, cube, layer in zip(numbers, cubes, figures, strict=True):
        experts, first = range(cube.shape[1]), ranks(cube, top_k) <= top_k
        rows["contribution"] += [
            {"layer": number, "domain": domain, "expert": e} | _readings(float(cube[d, e]), bool(first[d, e]))
            for d, domain in enumerate(domains)
            for e in experts
        ]
        rows["ranks"] += [
            {"layer": number, "domain": domain, "expert": e, "rank": int(layer["rank"][d, e])}
            for d, domain in enumerate(names)
            for e in experts
        ]
        rows["jaccard"] += [
            {"layer": number, "domain_a": a, "domain_b": b, "jaccard": float(layer["jaccard"][i, j])}
            for i, a in enumerate(names)
            for j, b in enumerate(names)
        ]
        rows["experts"] += [{"layer": number} | _expert(layer, e) for e in experts]
        rows["lorenz"] += [{"layer": number, "position": p, "share": float(v)} for p, v in enumerate(layer["lorenz"])]
    return {name: pa.Table.from_pylist(entries) for name, entries in rows.items()}


def _readings(share, chosen):
    return {"gate": share, "frequency": float(chosen), "weight": share * chosen, "released": share**2}


def _expert(layer, expert):
    columns = ("mean_rank", "rank_variance", "presence", "share")
    roles = {"candidate": expert in layer["candidates"], "member": expert in layer["members"]}
    return {"expert": expert, **{name: float(layer[name][expert]) for name in columns}, **roles}


def _stable(experts):
    """The experts table with stabilities: presence for candidates, a little less for members."""
    stability = pc.multiply(experts["presence"], 0.95)
    return experts.append_column("candidate_stability", stability).append_column(
        "member_stability", pc.multiply(stability, 0.8)
    )


def _bounded(contribution):
    """The contribution table with intervals of its gate column."""
    low, high = (pc.multiply(contribution["gate"], factor) for factor in (0.9, 1.1))
    return contribution.append_column("low", low).append_column("high", high)
