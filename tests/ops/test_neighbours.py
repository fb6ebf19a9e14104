"""Nearest neighbors, kernels, manifold loss: published vectors, plain loops, ties, rounding, memory, gradients."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from turnout import ops as plain
from turnout.ops import neighbours as public

CASES = json.loads((Path(__file__).parents[1] / "vectors/manifold.json").read_text())
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}


def by_loops(queries, references, k, sigma, least=None, exclude=None):
    """Index and weight from the definition, in plain Python."""
    rows = []
    for i, q in enumerate(queries):
        squared = [(math.fsum((a - b) ** 2 for a, b in zip(q, r, strict=True)), j) for j, r in enumerate(references)]
        sims = {j: math.exp(-d / (2 * sigma**2)) for d, j in squared}
        kept = [j for _, j in sorted(squared) if (least is None or sims[j] >= least)]
        kept = [j for j in kept if exclude is None or j != exclude[i]][:k]
        total = sum(sims[j] for j in kept)
        short = k - len(kept)
        rows.append((kept + [-1] * short, [sims[j] / total for j in kept] + [0.0] * short))
    return [index for index, _ in rows], [weight for _, weight in rows]


def gathered(references, index):
    return references[index.clamp(min=0)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_published_vectors(ops, case, dtype):
    queries, references = (torch.tensor(case[name], dtype=dtype) for name in ("queries", "references"))
    exclude = None if case["exclude"] is None else torch.tensor(case["exclude"])
    index, weight = ops.neighbours(queries, references, case["k"], case["sigma"], exclude_N=exclude)
    assert index.tolist() == case["index"]
    assert weight.dtype == dtype
    assert weight.numpy() == pytest.approx(np.array(case["weight"]), abs=TOLERANCE[dtype])
    routing, reference_routing = (torch.tensor(case[n], dtype=dtype) for n in ("routing", "reference_routing"))
    loss = ops.manifold_loss(routing, gathered(reference_routing, index), weight)
    assert float(loss) == pytest.approx(case["loss"], abs=TOLERANCE[dtype])


whole = st.integers(-3, 3).map(float)  # small whole numbers: many equal distances


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_plain_loops_with_ties_exclusions_and_the_ball(data):
    n, r, x = (data.draw(st.integers(1, most)) for most in (4, 9, 3))
    k, sigma = data.draw(st.integers(1, 11)), data.draw(st.sampled_from([0.4, 1.0, 3.0]))
    least = data.draw(st.sampled_from([None, 0.0, 0.05, 0.6]))
    queries, references = ([[data.draw(whole) for _ in range(x)] for _ in range(rows)] for rows in (n, r))
    exclude = data.draw(st.none() | st.lists(st.integers(-1, r - 1), min_size=n, max_size=n))
    expected = by_loops(queries, references, k, sigma, least, exclude)
    tensors = (torch.tensor(queries), torch.tensor(references))
    index, weight = plain.neighbours(*tensors, k, sigma, least, None if exclude is None else torch.tensor(exclude))
    assert index.tolist() == expected[0]
    assert weight.numpy() == pytest.approx(np.array(expected[1]), abs=1e-6)


@pytest.mark.parametrize("shape", [(300, 4000, 24), (40, 9000, 7), (5, 200, 384)])
def test_against_scikit_learn(shape):
    """Blocks of references of which the last is short; float32 input, the same neighbors as in float64."""
    n, r, x = shape
    rng = np.random.default_rng(0)
    queries, references = (rng.standard_normal((rows, x)).astype(np.float32) for rows in (n, r))
    distance, expected = (
        NearestNeighbors(n_neighbors=5, algorithm="brute")
        .fit(references.astype(float))
        .kneighbors(queries.astype(float))
    )
    index, weight = plain.neighbours(torch.tensor(queries), torch.tensor(references), 5, 2.0)
    assert (index.numpy() == expected).all()
    sims = np.exp(-(distance**2) / 8)
    assert weight.numpy() == pytest.approx(sims / sims.sum(1, keepdims=True), abs=1e-5)


def test_equal_and_nearly_equal_distances_are_in_order():
    """More equal distances than candidates; and distances that are equal in float32 products."""
    rng = np.random.default_rng(0)
    point = rng.standard_normal(64).astype(np.float32) * 10
    references = np.tile(point, (9000, 1))
    references[::3] += 1
    index, _ = plain.neighbours(torch.tensor(point[None]), torch.tensor(references), 4, 1.0, None, torch.tensor([2]))
    assert index.tolist() == [[1, 4, 5, 7]]
    near = 100 + rng.standard_normal((3000, 16)).astype(np.float32) * 1e-3
    distance = ((near[:1].astype(float) - near.astype(float)) ** 2).sum(1)
    index, _ = plain.neighbours(torch.tensor(near[:1]), torch.tensor(near), 6, 1.0)
    assert index[0].tolist() == np.argsort(distance, kind="stable")[:6].tolist()


def test_far_neighbours_keep_their_weights():
    """Where every sim underflows to 0 the weights are their limits."""
    index, weight = plain.neighbours(torch.tensor([[0.0]]), torch.tensor([[100.0], [100.0], [200.0]]), 3, 0.1)
    assert index.tolist() == [[0, 1, 2]]
    assert weight.tolist() == [[0.5, 0.5, 0.0]]


def test_no_matrix_of_all_pairs():
    """1,500 × 100,000: that matrix would take 600 MB. Measured in a process of its own."""
    code = (
        "import resource, torch; from turnout.ops import neighbours\n"
        "q, r = torch.rand(1500, 4), torch.rand(100_000, 4)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "neighbours(q, r, 3, 0.4); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 250_000, "kilobytes"


def test_half_precision_and_devices_of_results():
    x = torch.rand(6, 3).to(torch.bfloat16)
    index, weight = plain.neighbours(x, x, 2, 0.4, exclude_N=torch.arange(6))
    assert (index.dtype, weight.dtype) == (torch.int64, torch.bfloat16)
    assert not (index == torch.arange(6)[:, None]).any()
    loss = plain.manifold_loss(x, x[index], weight)
    assert loss.dtype == torch.bfloat16
    assert loss == plain.manifold_loss(x.float(), x[index].float(), weight.float()).to(torch.bfloat16)


def test_manifold_loss_equals_its_definition_and_its_gradient_reduces_it(ops):
    generator = torch.Generator().manual_seed(0)
    routing = torch.rand(5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    near = torch.rand(5, 3, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(5, 3, generator=generator, dtype=torch.float64)
    weight[4] = 0
    weight = (weight / weight.sum(1, keepdim=True)).nan_to_num()
    loss = ops.manifold_loss(routing, near, weight)
    expected = [
        sum(float(w) * sum((a - b) ** 2 for a, b in zip(r, n, strict=True)) for w, n in zip(ws, ns, strict=True))
        for r, ns, ws in zip(routing.tolist(), near.tolist(), weight.tolist(), strict=True)
    ]
    assert loss.item() == pytest.approx(sum(expected) / 5, abs=1e-14)
    assert torch.autograd.gradcheck(plain.manifold_loss, (routing, near, weight))
    loss.backward()
    pulled = routing.detach() - 0.1 * routing.grad
    assert float(plain.manifold_loss(pulled, near.detach(), weight)) < loss.item()
    assert torch.equal(routing.grad[4], torch.zeros(6, dtype=torch.float64))
    assert near.grad.abs().sum() > 0


X, W = torch.rand(2, 3), torch.tensor([[1.0], [0.0]])
REFUSED = {
    "coordinates": (lambda: public(X, torch.rand(4, 2), 1, 1.0), "references_RX: expected 3 coordinates"),
    "NaN": (lambda: public(X * torch.nan, X, 1, 1.0), "queries_NX: expected finite"),
    "k": (lambda: public(X, X, 0, 1.0), "k: expected 1 or more, got 0"),
    "sigma": (lambda: public(X, X, 1, 0.0), "sigma: expected a width above 0"),
    "ball": (lambda: public(X, X, 1, 1.0, 1.5), "min_similarity: expected a similarity from 0 to 1"),
    "exclude shape": (lambda: public(X, X, 1, 1.0, None, torch.tensor([0])), "exclude_N: expected 2 integers"),
    "exclude range": (lambda: public(X, X, 1, 1.0, None, torch.tensor([0, 2])), "exclude_N: expected indices from 0"),
    "features": (lambda: plain.manifold_loss(X, torch.rand(2, 1, 2), W), r"neighbours_BkF: expected shape \[2, k, 3\]"),
    "weights": (lambda: plain.manifold_loss(X, torch.rand(2, 1, 3), W.T), r"weight_Bk: expected shape \[2, 1\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


NUMBER = st.floats(-3, 3, width=32)


def kernel_by_loops(query, neighbours, values, sigma, missing):
    kernel = [
        0.0 if gone else math.exp(-math.fsum((a - b) ** 2 for a, b in zip(query, x, strict=True)) / (2 * sigma**2))
        for x, gone in zip(neighbours, missing, strict=True)
    ]
    total = sum(kernel)
    weights = [k / total if total else 0.0 for k in kernel]
    return weights, [sum(w * v[f] for w, v in zip(weights, values, strict=True)) for f in range(len(values[0]))]


@given(st.data())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_kernels_equal_plain_loops(ops, data):
    n, k, x, f = (data.draw(st.integers(1, 4)) for _ in range(4))
    drawn = [data.draw(st.lists(NUMBER, min_size=m, max_size=m)) for m in (n * x, n * k * x, n * k * f)]
    queries, near, values = (torch.tensor(d, dtype=torch.float64) for d in drawn)
    queries, near, values = queries.view(n, x), near.view(n, k, x), values.view(n, k, f)
    missing = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n * k, max_size=n * k))).view(n, k)
    sigma = data.draw(st.floats(0.5, 3))
    weights = ops.kernel_weights(queries, near, sigma, missing)
    means = ops.kernel_regression(queries, near, values, sigma, missing)
    for i in range(n):
        plain = kernel_by_loops(queries[i].tolist(), near[i].tolist(), values[i].tolist(), sigma, missing[i].tolist())
        assert weights[i].tolist() == pytest.approx(plain[0], abs=1e-12)
        assert means[i].tolist() == pytest.approx(plain[1], abs=1e-9)


def test_a_wide_kernel_averages_and_a_narrow_one_selects(ops):
    query, near = torch.zeros(1, 2), torch.tensor([[[3.0, 4.0], [0.0, 1.0], [6.0, 8.0]]])
    values = torch.tensor([[[1.0], [10.0], [100.0]]])
    assert float(ops.kernel_regression(query, near, values, 1e6)) == pytest.approx(37.0)
    assert float(ops.kernel_regression(query, near, values, 1e-3)) == 10.0  # every kernel underflows; shares do not


def test_kernel_weights_equal_those_of_neighbours(ops):
    generator = torch.Generator().manual_seed(0)
    queries, references = (torch.randn(n, 5, generator=generator) for n in (4, 9))
    index, weight = ops.neighbours(queries, references, 3, 0.7)
    torch.testing.assert_close(ops.kernel_weights(queries, references[index], 0.7), weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_dtypes_of_kernels(ops, dtype):
    query, near = torch.rand(2, 3).to(dtype), torch.rand(2, 4, 3).to(dtype)
    result = ops.kernel_regression(query, near, near, 0.5)
    assert result.dtype == ops.kernel_weights(query, near, 0.5).dtype == dtype


def test_kernels_refuse(ops):
    query, near = torch.zeros(2, 3), torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match="sigma: expected a width above 0, got 0"):
        ops.kernel_weights(query, near, 0.0)
    with pytest.raises(ValueError, match="queries_NX: expected finite numbers"):
        ops.kernel_weights(query / 0, near, 1.0)
