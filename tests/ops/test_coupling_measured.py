"""What measuring coupling adds to the ERC loss' formulas: an expert's answers, the cost of a pairing, ranks."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from turnout import ops as plain


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_gate_norms_are_a_column_of_m(ops):
    router, gate = draw(5, 4), draw(5, 4, 3, seed=1)
    columns = [ops.gate_norms(router, w) for w in gate]
    assert torch.equal(torch.stack(columns, dim=1), plain.activation_norms(router, gate))
    x, w = router.tolist(), gate[2].tolist()
    by_hand = [math.hypot(*(sum(row[h] * w[h][i] for h in range(4)) for i in range(3))) for row in x]
    assert columns[2].tolist() == pytest.approx(by_hand)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_gate_norms_dtype(ops, dtype):
    found = ops.gate_norms(draw(5, 64).to(dtype), draw(64, 8, seed=1).to(dtype))
    assert found.dtype == (torch.float32 if dtype is torch.bfloat16 else dtype)
    assert found.tolist() == pytest.approx(ops.gate_norms(draw(5, 64), draw(64, 8, seed=1)).tolist(), rel=0.02)


sizes = st.integers(1, 7)
alphas = st.floats(0, 4)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(sizes, alphas, st.integers(0, 2**20))
def test_a_pairing_costs_the_loss_of_the_relabelled_matrix(n, alpha, seed):
    norms = draw(n, n, seed=seed).abs()
    costs = plain.pairing_costs(norms, alpha)
    pairing = list(range(n))
    for _ in range(3):
        relabelled = float(plain.erc_loss(norms[:, pairing], alpha))
        assert float(costs[range(n), pairing].sum()) == pytest.approx(relabelled, abs=1e-12)
        random.Random(seed).shuffle(pairing)


def test_the_mean_cost_is_that_of_all_pairings(ops):
    from itertools import permutations

    norms = draw(4, 4).abs()
    for alpha in (0.5, 1, 2):
        losses = [float(ops.erc_loss(norms[:, list(p)], alpha)) for p in permutations(range(4))]
        mean = float(4 * ops.pairing_costs(norms, alpha).mean())
        assert mean == pytest.approx(sum(losses) / len(losses))


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_is_spearmans(ops, ties):
    x, y = draw(20, 9), draw(20, 9, seed=1)
    if ties:
        x, y = x.round(), (y * 2).round()
    expected = [spearmanr(a, b).statistic for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    assert ops.rank_correlation(x, y).tolist() == pytest.approx(expected)
    assert ops.rank_correlation(x, x).tolist() == pytest.approx([1] * 20)
    assert ops.rank_correlation(x.float(), -x.float()).tolist() == pytest.approx([-1] * 20)


def test_a_constant_row_correlates_with_nothing(ops):
    assert ops.rank_correlation(torch.ones(2, 3), draw(2, 3, dtype=torch.float32)).tolist() == [0, 0]


REFUSED = {
    "widths": (lambda: plain.gate_norms(torch.ones(2, 3), torch.ones(4, 5)), r"gate_HI: expected shape \[3, 'I'\]"),
    "square": (lambda: plain.pairing_costs(torch.ones(2, 3), 1), "norms_NN: expected as many rows as columns"),
    "alpha": (lambda: plain.pairing_costs(torch.ones(2, 2), -1), "alpha: expected a finite number of at least 0"),
    "shapes": (lambda: plain.rank_correlation(torch.ones(2, 3), torch.ones(2, 4)), r"y_TN: expected shape \[2, 3\]"),
    "NaN": (lambda: plain.rank_correlation(torch.ones(1, 2), torch.tensor([[1, torch.nan]])), "y_TN: expected finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()
