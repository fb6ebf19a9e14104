"""Properties that hold for any contributions."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout import ops

amounts = st.floats(0, 1, allow_subnormal=False, width=32)
settings.register_profile("turnout", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("turnout")


@st.composite
def contributions(draw, distinct=False):
    """[D, E] with something in each row, and k; `distinct`: no two equal in a row."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(2, 10)))
    if distinct:
        rows = [draw(st.permutations(range(1, shape[1] + 1))) for _ in range(shape[0])]
        values = np.array(rows, dtype=np.float64)
    else:
        values = draw(arrays.arrays(np.float64, shape, elements=amounts))
        values[:, draw(st.integers(0, shape[1] - 1))] += 0.25
    return torch.tensor(values), draw(st.integers(1, shape[1]))


@given(contributions())
def test_ranks_are_one_to_k_once_and_k_plus_one_elsewhere(case):
    contribution, k = case
    for row in ops.ranks(contribution, k).tolist():
        assert sorted(row) == [*range(1, k + 1)] + [k + 1] * (len(row) - k)


@given(contributions(distinct=True), st.randoms(use_true_random=False))
def test_permuting_experts_permutes_the_committee(case, random):
    contribution, k = case
    order = list(range(contribution.shape[1]))
    random.shuffle(order)
    result, shuffled = ops.committee(contribution, k), ops.committee(contribution[:, order], k)
    assert {order[e] for e in shuffled.members.tolist()} == set(result.members.tolist())
    assert {order[e] for e in shuffled.candidates.tolist()} == set(result.candidates.tolist())
    assert shuffled.mean_rank.tolist() == result.mean_rank.tolist()


@given(contributions(), st.integers(-20, 20))
def test_scaling_contributions_changes_nothing(case, exponent):
    contribution, k = case
    scaled = contribution * 2.0**exponent  # a power of two: no rounding, so no new ties
    result, other = ops.committee(contribution, k), ops.committee(scaled, k)
    assert result.members.tolist() == other.members.tolist()
    assert result.candidates.tolist() == other.candidates.tolist()
    assert torch.equal(ops.jaccard(contribution, k), ops.jaccard(scaled, k))
    assert float(ops.gini(contribution.mean(0))) == pytest.approx(float(ops.gini(scaled.mean(0))), abs=1e-12)
    assert float(ops.gini_topk(contribution, k)) == pytest.approx(float(ops.gini_topk(scaled, k)), abs=1e-12)
    covered = [ops.coverage(c, result.members) for c in (contribution, scaled)]
    assert float(covered[0]) == pytest.approx(float(covered[1]), abs=1e-12)


@given(contributions())
def test_a_committee_is_not_empty_not_dominated_and_within_the_candidates(case):
    contribution, k = case
    result = ops.committee(contribution, k)
    assert len(result.members) >= 1
    assert set(result.members.tolist()) <= set(result.candidates.tolist())
    rank = ops.ranks(contribution, k).double()
    mean, variance = rank.mean(0), rank.var(0, correction=0)
    for member in result.members.tolist():
        for other in result.candidates.tolist():
            better_mean, better_variance = mean[other] < mean[member] - 1e-9, variance[other] < variance[member] - 1e-9
            no_worse = mean[other] <= mean[member] + 1e-9 and variance[other] <= variance[member] + 1e-9
            assert not (no_worse and (better_mean or better_variance))
    order = list(zip(result.mean_rank.tolist(), result.members.tolist(), strict=True))
    assert order == sorted(order)


@given(contributions())
def test_gini_and_lorenz(case):
    contribution, k = case
    x = contribution.mean(0)
    gini, curve = float(ops.gini(x)), ops.lorenz(x)
    assert 0 <= gini < 1
    assert curve.shape == (len(x) + 1,)
    assert (float(curve[0]), float(curve[-1])) == (0, 1)
    assert bool((curve.diff() >= 0).all())
    assert bool((curve.diff().diff() >= -1e-12).all())
    area = float(((curve[1:] + curve[:-1]) / 2).mean())
    assert gini == pytest.approx(1 - 2 * area, abs=1e-12)
    assert float(ops.gini_topk(contribution, k)) >= 1 - k / len(x) - 1e-12


@given(contributions())
def test_jaccard_is_symmetric_with_ones_on_the_diagonal(case):
    result = ops.jaccard(*case)
    assert torch.equal(result, result.T)
    assert result.diagonal().tolist() == [1.0] * len(result)
    assert bool(((result >= 0) & (result <= 1)).all())


@given(contributions())
def test_the_coverage_of_all_experts_is_one(case):
    contribution, k = case
    n_experts = contribution.shape[1]
    everyone = torch.arange(n_experts)
    assert float(ops.coverage(contribution, everyone)) == pytest.approx(1)
    assert float(ops.coverage_topk(contribution, everyone, k)) == pytest.approx(1)
    assert float(ops.coverage(contribution, everyone[:0])) == 0
    assert ops.influence_ratio(torch.tensor(1.0), n_experts, n_experts).isnan()


def test_equal_experts_have_no_inequality():
    for value in (0.1, 1 / 3, 1e-30):
        assert float(ops.gini(torch.full((7,), value))) == 0
    uniform = torch.full((4, 10), 0.1, dtype=torch.float64)
    assert float(ops.gini_topk(uniform, 3)) == pytest.approx(0.7)  # the floor 1 − K/E
    assert float(ops.influence_ratio(ops.coverage(uniform, torch.tensor([1, 2])), 2, 10)) == pytest.approx(1)


def test_one_expert_with_everything():
    x = torch.tensor([0.0, 0, 0, 5])
    assert float(ops.gini(x)) == 0.75
    assert ops.lorenz(x).tolist() == [0, 0, 0, 0, 1]
    assert float(ops.influence_ratio(ops.coverage(x[None], torch.tensor([3])), 1, 4)) == torch.inf


def test_needed_domains_are_counted_exactly():
    """0.07 · 100 is 7.000000000000001 in floating point: seven domains of a hundred are enough."""
    contribution = torch.zeros(100, 3).double()
    contribution[:7, 0], contribution[7:, 1] = 1, 1
    assert ops.committee(contribution, 1, presence=0.07).candidates.tolist() == [0, 1]
    assert ops.committee(contribution, 1, presence=0.08).candidates.tolist() == [1]
