"""Each formula against its definition written out in plain Python, loop by loop."""

import math
from statistics import fmean, pvariance

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_samples

SEEDS = range(12)


def draw(seed):
    """A random case: scores [S, E] with rows of sum 1, domains with at least one sample, and k."""
    rng = np.random.default_rng(seed)
    n_domains, n_experts = int(rng.integers(2, 7)), int(rng.integers(2, 12))
    n_samples = n_domains + int(rng.integers(1, 30))
    domain = np.concatenate([np.arange(n_domains), rng.integers(0, n_domains, n_samples - n_domains)])
    scores = rng.dirichlet(np.full(n_experts, 0.5), n_samples)
    return torch.tensor(scores), torch.tensor(rng.permutation(domain)), n_domains, int(rng.integers(1, n_experts + 1))


def first_k(row, k):
    return set(sorted(range(len(row)), key=lambda e: (-row[e], e))[:k])


def rank_rows(contribution, k):
    rows = []
    for row in contribution:
        order = sorted(range(len(row)), key=lambda e: (-row[e], e))
        rows.append([min(order.index(e) + 1, k + 1) for e in range(len(row))])
    return rows


def gini_by_pairs(x):
    return sum(abs(a - b) for a in x for b in x) / (2 * len(x) * sum(x))


def cosine_distance(u, v):
    return 1 - sum(a * b for a, b in zip(u, v, strict=True)) / (math.hypot(*u) * math.hypot(*v))


@pytest.mark.parametrize("seed", SEEDS)
def test_contribution_and_released(ops, seed):
    scores, domain, n_domains, k = draw(seed)
    chosen = torch.tensor([[e in first_k(row, k) for e in range(len(row))] for row in scores.tolist()])
    weight = scores * chosen
    mean, released = [], []
    for d in range(n_domains):
        rows = [row for row, own in zip(scores.tolist(), domain.tolist(), strict=True) if own == d]
        mean.append([fmean(column) for column in zip(*rows, strict=True)])
        applied = [row for row, own in zip(weight.tolist(), domain.tolist(), strict=True) if own == d]
        released.append([])
        for column in zip(*applied, strict=True):
            scaled = [(x - min(column)) / (max(column) - min(column) + 1e-6) for x in column]
            released[-1].append(fmean(scaled) * fmean(x > 0 for x in column))
    assert ops.contribution(scores, domain, n_domains).numpy() == pytest.approx(np.array(mean), abs=1e-14)
    assert ops.released(weight, domain, n_domains).numpy() == pytest.approx(np.array(released), abs=1e-12)
    explicit = ops.released(weight, domain, n_domains, (weight > 0).double())
    assert torch.equal(explicit, ops.released(weight, domain, n_domains))


@pytest.mark.parametrize("seed", SEEDS)
def test_ranks_and_committee(ops, seed):
    scores, domain, n_domains, k = draw(seed)
    contribution = ops.contribution(scores, domain, n_domains)
    rows = rank_rows(contribution.tolist(), k)
    assert ops.ranks(contribution, k).tolist() == rows
    by_expert = list(zip(*rows, strict=True))
    present = [sum(rank <= k for rank in column) for column in by_expert]
    for share in (0.8, 0.5, 1.0):
        needed = math.ceil(share * n_domains - 1e-9)
        enough = [e for e, n in enumerate(present) if n >= needed]
        candidates = enough or [e for e, n in enumerate(present) if n == max(present)]
        point = {
            e: (sum(by_expert[e]), n_domains * sum(r * r for r in by_expert[e]) - sum(by_expert[e]) ** 2)
            for e in candidates
        }
        members = [
            e
            for e in candidates
            if not any(o[0] <= point[e][0] and o[1] <= point[e][1] and o != point[e] for o in point.values())
        ]
        members.sort(key=lambda e: (point[e][0], e))
        result = ops.committee(contribution, k, share)
        assert (result.candidates.tolist(), result.fallback) == (candidates, not enough)
        assert result.members.tolist() == members
        assert result.mean_rank.tolist() == pytest.approx([fmean(by_expert[e]) for e in members])
        assert result.rank_variance.tolist() == pytest.approx([pvariance(by_expert[e]) for e in members], abs=1e-12)
        assert result.presence.tolist() == pytest.approx([present[e] / n_domains for e in members])


@pytest.mark.parametrize("seed", SEEDS)
def test_measures(ops, seed):
    scores, domain, n_domains, k = draw(seed)
    contribution = ops.contribution(scores, domain, n_domains)
    rows, n_experts = contribution.tolist(), contribution.shape[1]
    mean = [fmean(column) for column in zip(*rows, strict=True)]
    assert float(ops.gini(contribution.mean(0))) == pytest.approx(gini_by_pairs(mean), abs=1e-13)
    kept = [[x if e in first_k(row, k) else 0.0 for e, x in enumerate(row)] for row in rows]
    assert float(ops.gini_topk(contribution, k)) == pytest.approx(fmean(gini_by_pairs(row) for row in kept), abs=1e-13)
    members = list(range(0, n_experts, 2))
    share = sum(mean[e] for e in members) / sum(mean)
    coverage = ops.coverage(contribution, torch.tensor(members))
    assert float(coverage) == pytest.approx(share)
    share_topk = fmean(sum(row[e] for e in members) for row in kept) / fmean(sum(row) for row in kept)
    assert float(ops.coverage_topk(contribution, torch.tensor(members), k)) == pytest.approx(share_topk)
    ratio = (share / len(members)) / ((1 - share) / (n_experts - len(members)))
    assert float(ops.influence_ratio(coverage, len(members), n_experts)) == pytest.approx(ratio)
    sets = [first_k(row, k) for row in rows]
    expected = [[len(a & b) / len(a | b) for b in sets] for a in sets]
    assert ops.jaccard(contribution, k).tolist() == pytest.approx(np.array(expected))
    pairs = [expected[a][b] for a in range(n_domains) for b in range(a)]
    assert float(ops.jaccard_mean(contribution, k)) == pytest.approx(fmean(pairs) if pairs else np.nan, nan_ok=True)
    largest = [sum(sorted(mean, reverse=True)[:m]) / sum(mean) for m in range(1, n_experts + 1)]
    assert ops.largest_coverage(contribution).tolist() == pytest.approx(largest)


def test_leading_dimensions_are_computed_one_by_one(ops):
    many = torch.rand(2, 5, 4, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    members = torch.tensor([0, 3])
    for formula in (
        lambda x: ops.gini_topk(x, 3),
        lambda x: ops.jaccard_mean(x, 3),
        lambda x: ops.coverage_topk(x, members, 3),
        lambda x: ops.influence_ratio(ops.coverage(x, members), 2, 10),
        ops.largest_coverage,
    ):
        alone = torch.stack([torch.stack([formula(x) for x in row]) for row in many])
        torch.testing.assert_close(formula(many), alone)


@pytest.mark.parametrize("seed", SEEDS)
def test_silhouette(ops, seed):
    scores, domain, *_ = draw(seed)
    rows, own = scores.tolist(), domain.tolist()
    result = ops.silhouette(scores, domain)
    assert result.numpy() == pytest.approx(
        silhouette_samples(scores.numpy(), domain.numpy(), metric="cosine"), abs=1e-12
    )
    for s, row in enumerate(rows):
        distance = {
            d: [cosine_distance(row, rows[o]) for o in range(len(rows)) if own[o] == d and o != s] for d in set(own)
        }
        if not distance[own[s]]:
            assert result[s] == 0
            continue
        a = fmean(distance[own[s]])
        b = min(fmean(values) for d, values in distance.items() if d != own[s])
        assert float(result[s]) == pytest.approx((b - a) / max(a, b), abs=1e-12)


def test_silhouette_of_labels_with_gaps_and_of_any_integer_type(ops):
    scores, domain, *_ = draw(3)
    expected = ops.silhouette(scores, domain)
    assert torch.equal(ops.silhouette(scores, (domain * 7 - 3).to(torch.int16)), expected)


def test_silhouette_where_all_distances_are_zero(ops):
    row = torch.tensor([0.1, 0.2, 0.7])
    for dtype in (torch.float32, torch.float64):
        scores = torch.stack([row.to(dtype) * scale for scale in (1.0, 3.0, 0.7, 1 / 3)])
        assert ops.silhouette(scores, torch.tensor([0, 0, 1, 1])).tolist() == [0, 0, 0, 0]


def test_silhouette_keeps_small_distances(ops):
    """Nearly uniform scores: in 1 − cosine they are lost to rounding in float32."""
    rng = np.random.default_rng(0)
    scores = 1 / 64 + 1e-5 * rng.standard_normal((40, 64)) + 1e-5 * np.repeat(rng.standard_normal((2, 64)), 20, axis=0)
    domain = torch.arange(2).repeat_interleave(20)
    exact = silhouette_samples(scores, domain.numpy(), metric="cosine")
    assert ops.silhouette(torch.tensor(scores, dtype=torch.float32), domain).numpy() == pytest.approx(exact, abs=2e-3)


def test_silhouette_needs_no_matrix_of_all_pairs(ops):
    """60,000 samples: their distances would take 14 GB."""
    rng = np.random.default_rng(0)
    scores = torch.tensor(rng.dirichlet(np.ones(8), 60_000), dtype=torch.float32)
    result = ops.silhouette(scores, torch.arange(60_000) % 3)
    assert result.shape == (60_000,)
    assert abs(float(result.mean())) < 0.01
