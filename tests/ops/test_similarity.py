"""CKA, neighbor overlap and rank correlation against Gram matrices, scikit-learn and SciPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from turnout import ops


def drawn(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cka_of_grams(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC(K, L) / √(HSIC(K, K)·HSIC(L, L)) with K = XXᵀ, L = YYᵀ and the centering matrix written out."""
    n = len(x)
    center = np.eye(n) - np.ones((n, n)) / n

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        return np.trace(a @ center @ b @ center)

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@given(rows=st.integers(2, 30), x=st.integers(1, 8), y=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_linear_cka_equals_the_form_with_gram_matrices(rows: int, x: int, y: int, seed: int) -> None:
    a, b = drawn(rows, x, seed), drawn(rows, y, seed + 1)
    assert float(ops.linear_cka(a, b)) == pytest.approx(cka_of_grams(a.numpy(), b.numpy()), abs=1e-9)


@given(seed=st.integers(0, 10**6), factor=st.floats(1e-6, 1e6), shift=st.floats(-100, 100))
def test_linear_cka_is_invariant_under_rotation_shift_and_scale(seed: int, factor: float, shift: float) -> None:
    x, y = drawn(20, 5, seed), drawn(20, 4, seed + 1)
    rotated = x @ torch.linalg.qr(drawn(5, 5, seed + 2)).Q * factor + shift
    assert float(ops.linear_cka(rotated, y)) == pytest.approx(float(ops.linear_cka(x, y)), abs=1e-6)
    assert float(ops.linear_cka(rotated, x)) == pytest.approx(1.0, abs=1e-6)


def test_linear_cka_of_equal_rows_is_nan_and_other_lengths_are_refused() -> None:
    assert ops.linear_cka(torch.ones(4, 2), drawn(4, 2, 0).float()).isnan()
    with pytest.raises(ValueError, match="y_SY: expected 4 rows, as x_SX has, got 3"):
        ops.linear_cka(torch.rand(4, 2), torch.rand(3, 2))


@given(rows=st.integers(3, 40), data=st.data(), seed=st.integers(0, 10**6))
def test_neighbour_overlap_with_scikit_learns_neighbors(rows: int, data: st.DataObject, seed: int) -> None:
    k = data.draw(st.integers(1, rows - 1))
    x, y = drawn(rows, 3, seed), drawn(rows, 6, seed + 1)
    near = [NearestNeighbors(n_neighbors=k).fit(of).kneighbors(return_distance=False) for of in (x, y)]
    expected = [len({*a} & {*b}) / k for a, b in zip(*near, strict=True)]
    assert ops.neighbour_overlap(x, y, k).tolist() == pytest.approx(expected)


def test_neighbour_overlap_of_equal_and_of_unrelated_representations() -> None:
    x = drawn(500, 4, 0)
    assert ops.neighbour_overlap(x, 3 * x + 1, 7).eq(1).all()
    assert float(ops.neighbour_overlap(x, drawn(500, 4, 1), 10).mean()) == pytest.approx(10 / 499, abs=0.01)
    for k in (0, 500):
        with pytest.raises(ValueError, match="k: expected 1 to 499"):
            ops.neighbour_overlap(x, x, k)
    with pytest.raises(ValueError, match="y_SY: expected 500 rows"):
        ops.neighbour_overlap(x, x[:-1], 3)


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_is_spearmans(ties: bool) -> None:
    x, y = drawn(20, 9, 0), drawn(20, 9, 1)
    if ties:
        x, y = x.round(), (y * 2).round()
    expected = [spearmanr(a, b).statistic for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    assert ops.rank_correlation(x, y).tolist() == pytest.approx(expected)
    assert ops.rank_correlation(x, x).tolist() == pytest.approx([1] * 20)
    assert ops.rank_correlation(x.float(), -x.float()).tolist() == pytest.approx([-1] * 20)


def test_the_rank_correlation_of_a_constant_row_is_0() -> None:
    assert ops.rank_correlation(torch.ones(2, 3), drawn(2, 3, 0).float()).tolist() == [0, 0]


def test_rank_correlation_refuses_other_shapes_and_nan() -> None:
    with pytest.raises(ValueError, match=r"y_TN: expected shape \[2, 3\]"):
        ops.rank_correlation(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match="y_TN: expected finite"):
        ops.rank_correlation(torch.ones(1, 2), torch.tensor([[1, torch.nan]]))
