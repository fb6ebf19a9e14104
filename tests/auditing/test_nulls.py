"""The nulls: permuted domains and rotated routers."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from experiments.shared import planted
from turnout import ops
from turnout.auditing.evidence.bootstrap import Clusters
from turnout.auditing.evidence.domain_signal import domain_signal, permutations
from turnout.auditing.evidence.rotated import (
    factor,
    quantile_by_size,
    rotated,
    rotated_contributions,
    summary,
)

DESIGN = planted.Design(domains=4, subjects=6, samples=5, experts=12, top_k=3)


def chosen(scores, k):
    return torch.zeros_like(scores).scatter(1, scores.topk(k).indices, 1.0)


def signal(structure, seed=0, n=99):
    scores = planted.draw(structure, DESIGN, np.random.default_rng(seed))
    return domain_signal(scores, scores, chosen(scores, 3), DESIGN.clusters(), 3, seed=seed, n=n)


def test_mutual_information_equals_scikit_learn():
    domain, expert = torch.randint(0, 4, (500,)), torch.randint(0, 6, (500,))
    counts = torch.zeros(4, 6, dtype=torch.float64)
    counts.index_put_((domain, expert), torch.ones(500, dtype=torch.float64), accumulate=True)
    nats = mutual_info_score(domain.numpy(), expert.numpy())
    assert ops.mutual_information(counts).item() == pytest.approx(nats / np.log(2), abs=1e-12)


def test_domain_routing_is_detected_and_its_absence_too():
    result = signal(planted.domain_routing(DESIGN))
    assert result["mutual_information"]["p"] == result["silhouette"]["p"] == 0.01
    assert result["permuted"] == "subjects"
    assert result["jaccard_ratio"] < 0.5
    p = [signal(planted.uniform(DESIGN), seed)["mutual_information"]["p"] for seed in range(60)]
    assert np.mean(np.array(p) <= 0.05) <= 0.15, "about 5 % of traces without signal"
    assert 0.3 < np.mean(p) < 0.7


def test_whole_subjects_change_domain():
    clusters = DESIGN.clusters()
    labels, permuted = permutations(clusters, 20, np.random.default_rng(0))
    assert permuted == "subjects"
    for row in labels:
        assert all(len(set(row[clusters.subject_S == s])) == 1 for s in np.unique(clusters.subject_S))
        assert (np.bincount(row) == np.bincount(clusters.domain_S)).all()


def test_a_domain_with_one_subject_permutes_samples():
    clusters = Clusters(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 2, 2]), 2)
    labels, permuted = permutations(clusters, 20, np.random.default_rng(0))
    assert permuted == "samples"
    assert (np.sort(labels, axis=1) == clusters.domain_S).all()


def test_one_domain_has_no_signal():
    clusters = Clusters(np.zeros(5, np.int64), np.arange(5), 1)
    x = torch.rand(5, 4, dtype=torch.float64)
    assert domain_signal(x, x, x, clusters, 2, seed=0) is None


@pytest.mark.parametrize("shape", [(8, 32), (16, 12)])
def test_a_rotation_keeps_norms_and_angles(shape):
    router = torch.randn(shape, dtype=torch.float64)
    turned = rotated(factor(router), shape[1], torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned @ turned.T, router @ router.T)
    assert (turned - router).abs().max() > 0.1


def test_rotations_are_uniform():
    """The mean of a row over many rotations is 0, and its covariance a multiple of the identity."""
    generator = torch.Generator().manual_seed(0)
    row = torch.stack([rotated(factor(torch.eye(2, 4)), 4, generator)[0] for _ in range(4000)])
    assert row.mean(0).abs().max() < 0.03
    torch.testing.assert_close(row.T @ row / 4000, torch.eye(4) / 4, atol=0.02, rtol=0)


def test_a_rotated_router_has_the_entropy_of_the_trained_one():
    torch.manual_seed(0)
    inputs, router = torch.randn(120, 16) + 1, torch.randn(12, 16)
    softmax = torch.nn.Softmax(-1)
    drawn = rotated_contributions(inputs, router, None, softmax, DESIGN.clusters(), seed=0, n=20)
    assert drawn.shape == (20, 4, 12)
    torch.testing.assert_close(drawn.sum(-1), torch.ones(20, 4))
    again = rotated_contributions(inputs, router, None, softmax, DESIGN.clusters(), seed=0, n=20)
    assert torch.equal(drawn, again)
    # one domain of one sample has its own p as contribution: its entropy is the trained router's
    one = Clusters(np.zeros(1, np.int64), np.zeros(1, np.int64), 1)
    single = rotated_contributions(inputs[:1], router, None, softmax, one, seed=0, n=5)[:, 0]
    assert single.shape == (5, 12)
    target = torch.distributions.Categorical(softmax(inputs[:1] @ router.T)).entropy()
    torch.testing.assert_close(torch.distributions.Categorical(single).entropy(), target.expand(5), rtol=0, atol=1e-4)


def test_no_set_of_a_draw_covers_more_than_its_largest():
    drawn = torch.rand(7, 3, 6, dtype=torch.float64)
    largest = ops.largest_coverage(drawn)
    for members in ([0], [2, 4], [0, 1, 5]):
        covered = ops.coverage(drawn, torch.tensor(members))
        assert (covered <= largest[:, len(members) - 1] + 1e-12).all()
    assert quantile_by_size(largest)[-1] == pytest.approx(1)
    result = summary(drawn, 2)
    assert result["draws"] == 7
    assert result["gini"]["mean"] == pytest.approx(ops.gini(drawn.mean(1)).mean().item())
