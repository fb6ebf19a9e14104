"""Nearest neighbours and the manifold loss: published vectors, plain loops, ties, rounding, memory, gradients."""

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
    said = by_loops(queries, references, k, sigma, least, exclude)
    tensors = (torch.tensor(queries), torch.tensor(references))
    index, weight = plain.neighbours(*tensors, k, sigma, least, None if exclude is None else torch.tensor(exclude))
    assert index.tolist() == said[0]
    assert weight.numpy() == pytest.approx(np.array(said[1]), abs=1e-6)


@pytest.mark.parametrize("shape", [(300, 4000, 24), (40, 9000, 7), (5, 200, 384)])
def test_against_scikit_learn(shape):
    """Blocks of references of which the last is short; float32 in, the same neighbours as float64."""
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


def test_many_equals_and_near_equals_are_in_order():
    """More equals than candidates; and distances that float32 products cannot tell apart."""
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
    """Where every sim underflows to 0 the weights are what they tend to."""
    index, weight = plain.neighbours(torch.tensor([[0.0]]), torch.tensor([[100.0], [100.0], [200.0]]), 3, 0.1)
    assert index.tolist() == [[0, 1, 2]]
    assert weight.tolist() == [[0.5, 0.5, 0.0]]


def test_no_matrix_of_all_pairs():
    """1,500 × 100,000: that matrix would take 600 MB. Measured in a process of its own, at few coordinates."""
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


def test_manifold_loss_is_its_definition_and_its_gradient_pulls(ops):
    generator = torch.Generator().manual_seed(0)
    routing = torch.rand(5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    near = torch.rand(5, 3, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(5, 3, generator=generator, dtype=torch.float64)
    weight[4] = 0
    weight = (weight / weight.sum(1, keepdim=True)).nan_to_num()
    loss = ops.manifold_loss(routing, near, weight)
    said = [
        sum(float(w) * sum((a - b) ** 2 for a, b in zip(r, n, strict=True)) for w, n in zip(ws, ns, strict=True))
        for r, ns, ws in zip(routing.tolist(), near.tolist(), weight.tolist(), strict=True)
    ]
    assert loss.item() == pytest.approx(sum(said) / 5, abs=1e-14)
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
