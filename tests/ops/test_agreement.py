"""How alike two representations of the same samples are, against scikit-learn and the form with S×S Gram matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from turnout import ops


def drawn(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cka_of_grams(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC(K, L) / √(HSIC(K, K)·HSIC(L, L)) with K = XXᵀ, L = YYᵀ and the centring matrix written out."""
    n = len(x)
    centre = np.eye(n) - np.ones((n, n)) / n

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        return np.trace(a @ centre @ b @ centre)

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@given(rows=st.integers(2, 30), x=st.integers(1, 8), y=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_linear_cka_is_that_of_gram_matrices(rows: int, x: int, y: int, seed: int) -> None:
    a, b = drawn(rows, x, seed), drawn(rows, y, seed + 1)
    assert float(ops.linear_cka(a, b)) == pytest.approx(cka_of_grams(a.numpy(), b.numpy()), abs=1e-9)


@given(seed=st.integers(0, 10**6), factor=st.floats(1e-6, 1e6), shift=st.floats(-100, 100))
def test_linear_cka_does_not_see_rotation_shift_or_scale(seed: int, factor: float, shift: float) -> None:
    x, y = drawn(20, 5, seed), drawn(20, 4, seed + 1)
    turned = x @ torch.linalg.qr(drawn(5, 5, seed + 2)).Q * factor + shift
    assert float(ops.linear_cka(turned, y)) == pytest.approx(float(ops.linear_cka(x, y)), abs=1e-6)
    assert float(ops.linear_cka(turned, x)) == pytest.approx(1.0, abs=1e-6)


def test_linear_cka_of_equal_rows_is_undefined_and_lengths_must_agree() -> None:
    assert ops.linear_cka(torch.ones(4, 2), drawn(4, 2, 0).float()).isnan()
    with pytest.raises(ValueError, match="y_SY: expected 4 rows, as x_SX has, got 3"):
        ops.linear_cka(torch.rand(4, 2), torch.rand(3, 2))


@given(rows=st.integers(3, 40), data=st.data(), seed=st.integers(0, 10**6))
def test_neighbour_overlap_is_that_of_scikit_learns_neighbours(rows: int, data: st.DataObject, seed: int) -> None:
    k = data.draw(st.integers(1, rows - 1))
    x, y = drawn(rows, 3, seed), drawn(rows, 6, seed + 1)
    near = [NearestNeighbors(n_neighbors=k).fit(of).kneighbors(return_distance=False) for of in (x, y)]
    expected = [len({*a} & {*b}) / k for a, b in zip(*near, strict=True)]
    assert ops.neighbour_overlap(x, y, k).tolist() == pytest.approx(expected)


def test_neighbour_overlap_at_its_ends_and_by_chance() -> None:
    x = drawn(500, 4, 0)
    assert ops.neighbour_overlap(x, 3 * x + 1, 7).eq(1).all()
    assert float(ops.neighbour_overlap(x, drawn(500, 4, 1), 10).mean()) == pytest.approx(10 / 499, abs=0.01)
    for k in (0, 500):
        with pytest.raises(ValueError, match="k: expected 1 to 499"):
            ops.neighbour_overlap(x, x, k)
    with pytest.raises(ValueError, match="y_SY: expected 500 rows"):
        ops.neighbour_overlap(x, x[:-1], 3)
