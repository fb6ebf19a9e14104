"""Resamples, intervals and stability against plain loops and known truth."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.shared import planted
from turnout import ops
from turnout.auditing.evidence.bootstrap import (
    FEWEST_SUBJECTS,
    Clusters,
    Resamples,
    contribution_bounds,
    debiased_interval,
    intervals,
    resample,
    resampled_means,
    stability,
)


@st.composite
def random_clusters(draw):
    n_domains = draw(st.integers(1, 3))
    sizes = [draw(st.lists(st.integers(1, 4), min_size=1, max_size=13)) for _ in range(n_domains)]
    domain = [d for d, of_domain in enumerate(sizes) for size in of_domain for _ in range(size)]
    subject = [j for of_domain in sizes for j, size in enumerate(of_domain) for _ in range(size)]
    return Clusters(np.array(domain), np.array(subject), n_domains)


@settings(deadline=None, max_examples=40)
@given(random_clusters(), st.integers(0, 2**32 - 1))
def test_a_resample_keeps_the_sizes_of_domains_and_subjects(clusters, seed):
    counts = resample(clusters, 7, np.random.default_rng(seed))
    for d in range(clusters.n_domains):
        groups = clusters.subjects(d)
        drawn = counts[:, clusters.domain_S == d]
        if len(groups) < FEWEST_SUBJECTS:
            assert clusters.level(d) == "samples"
            assert (drawn.sum(1) == sum(map(len, groups))).all()
        else:
            assert clusters.level(d) == "subjects"
            times = np.stack([counts[:, rows].sum(1) / len(rows) for rows in groups])
            assert (times == times.round()).all(), "a drawn subject has more or fewer samples than it had"
            assert (times.sum(0) == len(groups)).all()


def test_subjects_vary_together():
    """With subjects that differ and samples that do not, the spread is that of the subjects."""
    n_subjects, n_samples = 20, 30
    subject = np.repeat(np.arange(n_subjects), n_samples)
    clusters = Clusters(np.zeros(n_subjects * n_samples, np.int64), subject, 1)
    value = torch.from_numpy(np.random.default_rng(0).standard_normal(n_subjects)[subject])[:, None]
    means = resampled_means(value, resample(clusters, 4000, np.random.default_rng(1)), clusters)[:, 0, 0]
    assert means.std().item() == pytest.approx(value.std(correction=0).item() / n_subjects**0.5, rel=0.05)


def test_resampled_means_are_contributions_of_the_copies():
    clusters = Clusters(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1]), 2)
    values = torch.rand(5, 4, dtype=torch.float64)
    counts = resample(clusters, 6, np.random.default_rng(0))
    for row, means in zip(counts, resampled_means(values, counts, clusters), strict=True):
        copies = np.repeat(np.arange(5), row)
        plain = ops.contribution(values[copies], torch.from_numpy(clusters.domain_S[copies]), 2)
        torch.testing.assert_close(means, plain)


def test_debiased_interval_subtracts_the_bias_twice():
    values = torch.linspace(0.3, 0.5, 1001)
    low, high = debiased_interval(0.35, values, 0.0, 1.0)
    assert (low, high) == pytest.approx((0.305 - 0.1, 0.495 - 0.1), abs=1e-3)
    assert debiased_interval(0.0, values, 0.0, 1.0)[0] == 0.0


@pytest.mark.parametrize("estimate", [0.1, 0.3, 0.4, 0.9])
def test_debiased_interval_includes_the_estimate(estimate):
    low, high = debiased_interval(estimate, torch.linspace(0.3, 0.5, 1001), 0.0, 1.0)
    assert low <= estimate <= high


def test_stability_counts_resamples():
    many = torch.rand(50, 5, 12, dtype=torch.float64)
    candidate, member = stability(many, 4, 0.6)
    committees = [ops.committee(one, 4, 0.6) for one in many]
    for expert in range(12):
        held = sum(expert in c.candidates.tolist() and not c.fallback for c in committees)
        assert candidate[expert].item() == pytest.approx(held / 50)
        held = sum(expert in c.members.tolist() and not c.fallback for c in committees)
        assert member[expert].item() == pytest.approx(held / 50)


def test_intervals_contain_the_truth_at_about_their_level():
    """95 % intervals of each figure on planted traces: the share of 120 draws that contain the truth."""
    design = planted.Design(domains=4, subjects=15, samples=6, experts=16)
    rng = np.random.default_rng(0)
    structure = planted.noisy_members(0.3, design, rng)
    true = planted.truth(structure, design)
    members = torch.tensor(structure.members)
    figures = {
        "coverage": ops.coverage(true, members).item(),
        "gini": ops.gini(true.mean(0)).item(),
        "gini_topk": ops.gini_topk(true, design.top_k).item(),
    }
    held = dict.fromkeys(figures, 0)
    for seed in range(120):
        scores = planted.draw(structure, design, rng)
        clusters = design.clusters()
        drawn = Resamples.draw(clusters, seed, 300)
        own = ops.contribution(scores, torch.from_numpy(clusters.domain_S), clusters.n_domains)
        bounds = intervals(own, drawn.means(scores), design.top_k, members, "subjects")
        for name, value in figures.items():
            low, high = bounds[name]
            held[name] += low <= value <= high
    for name, times in held.items():
        assert times / 120 >= 0.88, f"{name}: {times} of 120"


def test_undefined_figures_have_no_interval():
    nothing = torch.zeros(2, 4, dtype=torch.float64)
    bounds = intervals(nothing, nothing.expand(5, 2, 4), 2, torch.tensor([0]), "samples")
    assert bounds == {
        **dict.fromkeys(("coverage", "coverage_topk", "gini", "gini_topk", "jaccard_mean", "influence_ratio")),
        "level": "samples",
    }


def test_bounds_of_contributions_are_quantiles_of_each():
    drawn = torch.rand(200, 3, 5, generator=torch.Generator().manual_seed(0))
    low, high = contribution_bounds(drawn).numpy()
    np.testing.assert_allclose(low, np.quantile(drawn.double().numpy(), 0.025, axis=0))
    np.testing.assert_allclose(high, np.quantile(drawn.double().numpy(), 0.975, axis=0))
