"""The Gaussian kernel and its regression: plain loops, limits, missing and far neighbours, refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

NUMBER = st.floats(-3, 3, width=32)


def by_loops(query, neighbours, values, sigma, missing):
    kernel = [
        0.0 if gone else math.exp(-math.fsum((a - b) ** 2 for a, b in zip(query, x, strict=True)) / (2 * sigma**2))
        for x, gone in zip(neighbours, missing, strict=True)
    ]
    total = sum(kernel)
    weights = [k / total if total else 0.0 for k in kernel]
    return weights, [sum(w * v[f] for w, v in zip(weights, values, strict=True)) for f in range(len(values[0]))]


@given(st.data())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_plain_loops(ops, data):
    n, k, x, f = (data.draw(st.integers(1, 4)) for _ in range(4))
    drawn = [data.draw(st.lists(NUMBER, min_size=m, max_size=m)) for m in (n * x, n * k * x, n * k * f)]
    queries, near, values = (torch.tensor(d, dtype=torch.float64) for d in drawn)
    queries, near, values = queries.view(n, x), near.view(n, k, x), values.view(n, k, f)
    missing = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n * k, max_size=n * k))).view(n, k)
    sigma = data.draw(st.floats(0.5, 3))
    weights = ops.kernel_weights(queries, near, sigma, missing)
    means = ops.kernel_regression(queries, near, values, sigma, missing)
    for i in range(n):
        plain = by_loops(queries[i].tolist(), near[i].tolist(), values[i].tolist(), sigma, missing[i].tolist())
        assert weights[i].tolist() == pytest.approx(plain[0], abs=1e-12)
        assert means[i].tolist() == pytest.approx(plain[1], abs=1e-9)


def test_wide_kernels_average_and_narrow_ones_choose(ops):
    query, near = torch.zeros(1, 2), torch.tensor([[[3.0, 4.0], [0.0, 1.0], [6.0, 8.0]]])
    values = torch.tensor([[[1.0], [10.0], [100.0]]])
    assert float(ops.kernel_regression(query, near, values, 1e6)) == pytest.approx(37.0)
    assert float(ops.kernel_regression(query, near, values, 1e-3)) == 10.0  # every kernel underflows; shares do not


def test_weights_are_those_of_neighbours(ops):
    generator = torch.Generator().manual_seed(0)
    queries, references = (torch.randn(n, 5, generator=generator) for n in (4, 9))
    index, weight = ops.neighbours(queries, references, 3, 0.7)
    torch.testing.assert_close(ops.kernel_weights(queries, references[index], 0.7), weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_dtypes(ops, dtype):
    query, near = torch.rand(2, 3).to(dtype), torch.rand(2, 4, 3).to(dtype)
    found = ops.kernel_regression(query, near, near, 0.5)
    assert found.dtype == ops.kernel_weights(query, near, 0.5).dtype == dtype


def test_refusals(ops):
    query, near = torch.zeros(2, 3), torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match="sigma: expected a width above 0, got 0"):
        ops.kernel_weights(query, near, 0.0)
    with pytest.raises(ValueError, match="queries_NX: expected finite numbers"):
        ops.kernel_weights(query / 0, near, 1.0)
