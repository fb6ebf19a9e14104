"""Log-odds, false discovery and joint inclusion against plain loops, enumeration and other libraries."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from turnout import ops as plain

SEEDS = range(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_log_odds_by_a_plain_loop(ops, seed):
    rng = np.random.default_rng(seed)
    n_types = int(rng.integers(2, 40))
    y, other = rng.integers(0, 50, n_types), rng.integers(0, 50, n_types)
    prior = rng.uniform(0.1, 3, n_types)
    result = ops.log_odds(torch.tensor(y).double(), torch.tensor(other).double(), torch.tensor(prior))
    for v in range(n_types):
        total = prior.sum()
        one = (y[v] + prior[v]) / (y.sum() + total - y[v] - prior[v])
        two = (other[v] + prior[v]) / (other.sum() + total - other[v] - prior[v])
        delta = math.log(one) - math.log(two)
        variance = 1 / (y[v] + prior[v]) + 1 / (other[v] + prior[v])
        assert result.log_odds[v].item() == pytest.approx(delta, abs=1e-12)
        assert result.z[v].item() == pytest.approx(delta / math.sqrt(variance), abs=1e-12)


def test_log_odds_of_many_corpora_at_once(ops):
    counts, others = torch.rand(3, 7).double() * 9, torch.rand(3, 7).double() * 9
    prior = torch.rand(7).double() + 0.1
    together = ops.log_odds(counts, others, prior.expand(3, 7))
    for r in range(3):
        assert torch.equal(together.z[r], ops.log_odds(counts[r], others[r], prior).z)


counts = st.lists(st.integers(0, 1000), min_size=2, max_size=20)


@settings(max_examples=50, deadline=None)
@given(counts, st.data())
def test_log_odds_change_sign_with_the_corpora_exchanged(y, data):
    other = data.draw(st.lists(st.integers(0, 1000), min_size=len(y), max_size=len(y)))
    prior = torch.full((len(y),), 0.5, dtype=torch.float64)
    one, two = torch.tensor(y).double(), torch.tensor(other).double()
    forth, back = plain.log_odds(one, two, prior), plain.log_odds(two, one, prior)
    assert torch.allclose(forth.log_odds, -back.log_odds)
    assert torch.allclose(forth.z, -back.z)
    assert not plain.log_odds(one, one, prior).z.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_adjusted_p_values_are_scipys(ops, seed):
    p = np.random.default_rng(seed).uniform(size=seed * 7 + 1) ** 3
    result = ops.benjamini_hochberg(torch.tensor(p))
    assert result.numpy() == pytest.approx(false_discovery_control(p))


def chances(weights, k):
    """P(a and b chosen) by listing every set of k."""
    n = len(weights)
    sets = list(itertools.combinations(range(n), k))
    total = sum(math.prod(weights[e] for e in s) for s in sets)
    joint = [[0.0] * n for _ in range(n)]
    for s in sets:
        for a in s:
            for b in s:
                joint[a][b] += math.prod(weights[e] for e in s) / total
    return joint


@pytest.mark.parametrize("seed", SEEDS)
def test_joint_inclusion_by_listing_every_set(ops, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 8))
    k = int(rng.integers(1, n + 1))
    expected = torch.tensor(chances(np.exp(rng.normal(0, 2, n)).tolist(), k), dtype=torch.float64)
    result = ops.joint_inclusion(expected.diagonal().clone(), k)
    assert torch.allclose(result, expected, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.data())
def test_joint_inclusion_keeps_the_shares_and_their_sums(n_experts, data):
    k = data.draw(st.integers(1, n_experts))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    strength = data.draw(st.sampled_from([0.0, 1.0, 5.0]))  # at 5 some experts are hardly ever chosen, or always
    counts_E = np.zeros(n_experts)
    for _ in range(50):
        noisy = rng.gumbel(size=n_experts) + strength * np.arange(n_experts)
        counts_E[np.argsort(-noisy)[:k]] += 1
    share_E = torch.tensor(counts_E / 50)
    joint_EE = plain.joint_inclusion(share_E, k)
    assert torch.allclose(joint_EE.diagonal(), share_E)
    assert torch.allclose(joint_EE, joint_EE.T, atol=1e-9)
    assert torch.allclose(joint_EE.sum(1), k * share_E, atol=1e-7)
    assert (joint_EE >= 0).all()
    assert (joint_EE <= torch.minimum(share_E[:, None], share_E[None]) + 1e-9).all()


def test_equal_shares_equal_drawing_without_replacement(ops):
    joint = ops.joint_inclusion(torch.full((10,), 0.3, dtype=torch.float64), 3)
    assert joint[0, 1].item() == pytest.approx(3 * 2 / (10 * 9))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_results_have_the_inputs_dtype(ops, dtype):
    x = torch.tensor([0.5, 0.25, 0.25], dtype=dtype)
    assert ops.log_odds(x, x, x).z.dtype == ops.benjamini_hochberg(x).dtype == ops.joint_inclusion(x, 1).dtype == dtype


X = torch.tensor([0.5, 0.5])
REFUSED = {
    "one type": (lambda: plain.log_odds(X[:1], X[:1], X[:1]), "counts_V: expected 2 types"),
    "types differ": (lambda: plain.log_odds(X, X, torch.ones(3)), "prior_V: expected 2 types"),
    "no prior": (lambda: plain.log_odds(X, X, X * 0), "prior_V: expected pseudo-counts above 0"),
    "negative": (lambda: plain.log_odds(-X, X, X), "counts_V: expected numbers of at least 0"),
    "p above 1": (lambda: plain.benjamini_hochberg(X * 3), "p_N: expected p-values from 0 to 1, got 1.5"),
    "sum": (lambda: plain.joint_inclusion(X, 2), "share_E: expected shares from 0 to 1 that sum to k = 2"),
    "share": (lambda: plain.joint_inclusion(torch.tensor([1.5, 0.5]), 2), "share_E: expected shares from 0 to 1"),
    "k": (lambda: plain.joint_inclusion(X, 0), "share_E: expected"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()
