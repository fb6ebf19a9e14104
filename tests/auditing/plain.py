"""The audit in plain Python lists and loops, written from the paper and docs/methods/audit.md, not from the source.

A sample is {"domain", "layers": {number: {"p": [T][E], "chosen": [T][K], "weights": [T][K]}}}: every token's scores,
chosen experts and applied weights.
"""

import math
from statistics import fmean, pvariance


def reduce_tokens(layer, n_experts, scope):
    """A sample's p, applied weight and choice frequency [E]: at its last token, or means over its tokens."""
    first = len(layer["p"]) - 1 if scope == "last" else 0
    p, weight, frequency = ([0.0] * n_experts for _ in range(3))
    tokens = range(first, len(layer["p"]))
    for t in tokens:
        for e in range(n_experts):
            p[e] += layer["p"][t][e] / len(tokens)
        for e, w in zip(layer["chosen"][t], layer["weights"][t], strict=True):
            weight[e] += w / len(tokens)
            frequency[e] += 1 / len(tokens)
    return {"p": p, "weight": weight, "frequency": frequency}


def contributions(samples, number, n_experts, domains, scope):
    """kind → [D][E]."""
    out = {"gate": [], "frequency": [], "weight": [], "released": []}
    for domain in domains:
        own = [reduce_tokens(s["layers"][number], n_experts, scope) for s in samples if s["domain"] == domain]
        columns = {name: [[s[name][e] for s in own] for e in range(n_experts)] for name in own[0]}
        out["gate"].append([fmean(column) for column in columns["p"]])
        out["frequency"].append([fmean(column) for column in columns["frequency"]])
        out["weight"].append([fmean(column) for column in columns["weight"]])
        scaled = [fmean((w - min(c)) / (max(c) - min(c) + 1e-6) for w in c) for c in columns["weight"]]
        out["released"].append([a * b for a, b in zip(scaled, out["frequency"][-1], strict=True)])
    return out


def silhouettes(samples, number, n_experts, domains, scope):
    """domain → mean silhouette of its samples, by all pairwise cosine distances."""
    rows = [(s["domain"], reduce_tokens(s["layers"][number], n_experts, scope)["p"]) for s in samples]
    values = {domain: [] for domain in domains}
    for i, (domain, row) in enumerate(rows):
        far = {d: [cosine(row, o) for j, (own, o) in enumerate(rows) if own == d and j != i] for d in domains}
        if not far[domain]:
            values[domain].append(0.0)
            continue
        a, b = fmean(far[domain]), min(fmean(far[d]) for d in domains if d != domain)
        values[domain].append((b - a) / max(a, b) if max(a, b) > 0 else 0.0)
    return {domain: fmean(in_domain) for domain, in_domain in values.items()}


def cosine(u, v):
    return 1 - sum(a * b for a, b in zip(u, v, strict=True)) / math.sqrt(sum(a * a for a in u) * sum(b * b for b in v))


def first(row, k):
    return sorted(range(len(row)), key=lambda e: (-row[e], e))[:k]


def gini(x):
    return sum(abs(a - b) for a in x for b in x) / (2 * len(x) * sum(x))


def figures(rows, k, presence=0.8):
    """A layer's figures from its contributions [D][E]."""
    n_domains, n_experts = len(rows), len(rows[0])
    top = [first(row, k) for row in rows]
    rank = [[t.index(e) + 1 if e in t else k + 1 for t in top] for e in range(n_experts)]
    present = [sum(e in t for t in top) for e in range(n_experts)]
    candidates = [e for e in range(n_experts) if present[e] >= math.ceil(presence * n_domains - 1e-9)]
    fallback = not candidates
    if fallback:
        candidates = [e for e in range(n_experts) if present[e] == max(present)]
    point = {e: (fmean(rank[e]), pvariance(rank[e])) for e in candidates}

    def dominated(e):
        mean, variance = point[e]
        return any(m <= mean and v <= variance and (m, v) != (mean, variance) for m, v in point.values())

    committee = sorted((e for e in candidates if not dominated(e)), key=lambda e: (point[e][0], e))
    mean = [fmean(row[e] for row in rows) for e in range(n_experts)]
    cut = [[x if e in t else 0.0 for e, x in enumerate(row)] for row, t in zip(rows, top, strict=True)]
    covered = sum(mean[e] for e in committee) / sum(mean)
    rest = (1 - covered) / (n_experts - len(committee)) if len(committee) < n_experts else 0
    pairs = [(set(a), set(b)) for i, a in enumerate(top) for j, b in enumerate(top) if i != j]
    return {
        "committee": committee,
        "mean_rank": [point[e][0] for e in committee],
        "rank_variance": [point[e][1] for e in committee],
        "presence": [present[e] / n_domains for e in committee],
        "candidates": candidates,
        "fallback": fallback,
        "coverage": covered,
        "coverage_topk": sum(sum(row[e] for e in committee) for row in cut) / sum(map(sum, cut)),
        "influence_ratio": covered / len(committee) / rest if rest > 0 else None,
        "gini": gini(mean),
        "gini_topk": fmean(gini(row) for row in cut),
        "jaccard_mean": fmean(len(a & b) / len(a | b) for a, b in pairs) if pairs else None,
    }
