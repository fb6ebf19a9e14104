"""The ERC loss and its parts: published vectors, plain loops, gradients, dtypes and memory."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from turnout import ops as plain

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "coupling.json").read_text())
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def draw(n, h, i, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((n, h), (n, h, i))]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_vectors(ops, case, dtype):
    router, gate = (torch.tensor(case[name], dtype=dtype) for name in ("router", "gate"))
    bound, norms = ops.noise_bound(router), ops.activation_norms(router, gate)
    for result, expected in ((bound, case["noise_bound"]), (norms, case["norms"])):
        assert result.dtype == dtype
        torch.testing.assert_close(result, torch.tensor(expected, dtype=dtype), rtol=0, atol=TOLERANCE[dtype] * 10)
    for alpha, loss in case["loss"].items():
        assert float(ops.erc_loss(norms, float(alpha))) == pytest.approx(loss, abs=TOLERANCE[dtype] * 10)


@pytest.mark.parametrize("seed", range(6))
def test_plain_loops(ops, seed):
    n, h, i = 2 + seed, 3 + seed % 3, 4
    router, gate = draw(n, h, i, seed)
    rows = router.tolist()
    bound = [min(math.dist(a, b) for b in rows if b is not a) / (2 * math.hypot(*a)) for a in rows]
    assert ops.noise_bound(router).tolist() == pytest.approx(bound)
    moved = ops.proxies(router, seeded(seed))
    uniform = torch.rand(n, h, generator=seeded(seed), dtype=torch.float64).tolist()
    by_hand = [
        [x * (1 + e * (2 * u - 1)) for x, u in zip(row, us, strict=True)]
        for row, us, e in zip(rows, uniform, bound, strict=True)
    ]
    assert moved.tolist() == pytest.approx([pytest.approx(row) for row in by_hand])
    norms = [
        [math.hypot(*(sum(p[a] * w[a][b] for a in range(h)) for b in range(i))) for w in gate.tolist()] for p in by_hand
    ]
    result = ops.activation_norms(moved, gate)
    assert result.tolist() == [pytest.approx(row) for row in norms]
    for alpha in (0, 0.4, 1, 3):
        loss = 0.0
        for a in range(n):
            for b in range(n):
                if a != b:
                    loss += max(norms[a][b] - alpha * norms[a][a], 0) + max(norms[b][a] - alpha * norms[a][a], 0)
        assert float(ops.erc_loss(result, alpha)) == pytest.approx(loss / n**2)


def test_gradients_equal_finite_differences(ops):
    router, gate = (x.requires_grad_() for x in draw(4, 5, 3))
    assert torch.autograd.gradcheck(ops.activation_norms, (router, gate))
    assert torch.autograd.gradcheck(lambda r, w: ops.erc_loss(ops.activation_norms(r, w), 0.7), (router, gate))
    noise_bound = ops.noise_bound(router)
    assert not noise_bound.requires_grad

    def with_constant_bound(rows):
        shift = 2 * torch.rand(rows.shape, generator=seeded(), dtype=rows.dtype) - 1
        return ops.activation_norms(rows * (1 + noise_bound[:, None] * shift), gate)

    expected = torch.autograd.grad(with_constant_bound(router).sum(), router)[0]
    result = torch.autograd.grad(ops.activation_norms(ops.proxies(router, seeded()), gate).sum(), router)[0]
    torch.testing.assert_close(result, expected)


def test_gradients_of_one_input_alone_and_of_a_norm_of_zero(ops):
    router, gate = draw(3, 4, 2)
    both = [x.clone().requires_grad_() for x in (router, gate)]
    ops.activation_norms(*both).square().sum().backward()
    for alone in (0, 1):
        inputs = [router, gate]
        inputs[alone] = inputs[alone].clone().requires_grad_()
        ops.activation_norms(*inputs).square().sum().backward()
        torch.testing.assert_close(inputs[alone].grad, both[alone].grad)
    zero = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    ops.activation_norms(zero, gate).sum().backward()
    assert bool((zero.grad == 0).all())


def test_a_second_derivative_is_refused(ops):
    router, gate = (x.requires_grad_() for x in draw(3, 4, 2))
    (grad,) = torch.autograd.grad(ops.activation_norms(router, gate).square().sum(), router, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def strided(gate, layout):
    """The same gate as a view of a parameter in transformers' layout; the parameter and the view."""
    if layout == "plain":  # [E, 2I, H], the first I rows
        parameter = torch.cat([gate.mT, torch.randn_like(gate.mT)], dim=1).requires_grad_()
        return parameter, parameter[:, : gate.shape[2]].mT
    parameter = torch.stack([gate, torch.randn_like(gate)], dim=-1).flatten(2).requires_grad_()  # [E, H, 2I], gpt-oss
    return parameter, parameter[:, :, ::2]


@pytest.mark.parametrize("layout", ["plain", "interleaved"])
def test_views_of_a_larger_parameter(ops, layout):
    router, gate = draw(4, 6, 3)
    gate.requires_grad_()
    parameter, view = strided(gate.detach(), layout)
    result, expected = ops.activation_norms(router, view), ops.activation_norms(router, gate)
    torch.testing.assert_close(result, expected)
    weight = torch.rand_like(result)
    (result * weight).sum().backward(), (expected * weight).sum().backward()
    grad = parameter.grad[:, :3].mT if layout == "plain" else parameter.grad[:, :, ::2]
    torch.testing.assert_close(grad, gate.grad)
    assert float(parameter.grad.abs().sum()) == pytest.approx(float(gate.grad.abs().sum()))


@pytest.mark.parametrize("unit_gates", [False, True])
@pytest.mark.parametrize("layout", ["plain", "interleaved"])
def test_inside_a_larger_parameter_the_gradient_is_the_same(ops, layout, unit_gates):
    router, gate = draw(4, 6, 3)
    parameter, _ = strided(gate, layout)
    view = (lambda w: w[:, :3].mT) if layout == "plain" else (lambda w: w[:, :, ::2])
    result = ops.fused_activation_norms(router.requires_grad_(), parameter, view, unit_gates)
    lengths = gate.flatten(1).norm(dim=1) if unit_gates else torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(result, ops.activation_norms(router, gate) / lengths)
    assert torch.autograd.gradcheck(
        lambda r, w: ops.fused_activation_norms(r, w, view, unit_gates), (router, parameter)
    )


def test_unit_gates_of_zeros(ops):
    router, gate = draw(3, 4, 2)
    gate[1] = 0
    norms = ops.fused_activation_norms(router.requires_grad_(), gate.requires_grad_(), lambda w: w, True)
    assert norms[:, 1].tolist() == [0, 0, 0]
    norms.sum().backward()
    assert bool(gate.grad.isfinite().all())
    assert bool((gate.grad[1] == 0).all())


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward and backward"])
def test_memory_is_at_most_three_times_that_of_one_expert(backward):
    """Beyond inputs, output and gradients; N²·I numbers would be 64 times one expert's."""
    n, h, i = 64, 96, 256
    router, gate = (x.requires_grad_(backward) for x in draw(n, h, i, dtype=torch.float32))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        norms = plain.activation_norms(router, gate)
        if backward:
            norms.sum().backward()
    held = most = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    kept = 4 * (n * n + (n * h + n * h * i) * backward)
    assert held >= kept
    assert most - kept <= 3 * 4 * n * i


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(ops, dtype):
    router, gate = (x.to(dtype).requires_grad_() for x in draw(6, 32, 16))
    assert ops.noise_bound(router).dtype == ops.proxies(router, seeded()).dtype == dtype
    torch.testing.assert_close(ops.noise_bound(router), plain.noise_bound(router.float()).to(dtype), rtol=0, atol=0)
    norms = ops.activation_norms(router, gate)
    assert norms.dtype == ops.erc_loss(norms, 1).dtype == torch.float32
    by_hand = torch.stack([(router @ w).float().norm(dim=1) for w in gate], dim=1)
    torch.testing.assert_close(norms, by_hand)
    ops.erc_loss(norms, 1).backward()
    exact = [x.detach().double().requires_grad_() for x in (router, gate)]
    ops.erc_loss(ops.activation_norms(*exact), 1).backward()
    for result, expected in zip((router, gate), exact, strict=True):
        assert result.grad.dtype == dtype
        assert float((result.grad - expected.grad).norm() / expected.grad.norm()) < 0.03


def test_autocast_does_not_round_the_products(ops):
    router, gate = (x.requires_grad_() for x in draw(5, 32, 16, dtype=torch.float32))
    expected = ops.activation_norms(router, gate)
    grads = torch.autograd.grad(expected.sum(), (router, gate))
    with torch.autocast("cpu", torch.bfloat16):
        result = ops.erc_loss(norms := ops.activation_norms(ops.proxies(router, seeded()), gate), 1)
        plain_norms = ops.activation_norms(router, gate)
        again = torch.autograd.grad(plain_norms.sum(), (router, gate))
    assert norms.dtype == result.dtype == torch.float32
    assert torch.equal(plain_norms, expected)
    assert all(torch.equal(a, b) for a, b in zip(grads, again, strict=True))


def test_rows_of_zeros_duplicates_and_a_single_row(ops):
    router, gate = draw(4, 5, 3)
    router[1], router[3] = 0, router[2]
    bound = ops.noise_bound(router)
    assert bound[1:].tolist() == [0, 0, 0]
    assert bound[0] > 0
    moved = ops.proxies(router, seeded())
    assert torch.equal(moved[1:], router[1:])
    assert bool(ops.activation_norms(moved, gate).isfinite().all())
    assert ops.noise_bound(router[:1]).tolist() == [0]
    assert torch.equal(ops.proxies(router[:1], seeded()), router[:1])
    assert float(ops.erc_loss(ops.activation_norms(router[:1], gate[:1]), 0.5)) == 0


def test_near_duplicates_keep_their_distance(ops):
    """In ‖a‖² + ‖b‖² − 2ab these distances are lost to rounding in float32."""
    router = torch.ones(40, 64) + 1e-4 * torch.randn(40, 64, generator=seeded())
    exact = plain.noise_bound(router.double())
    assert ops.noise_bound(router).tolist() == pytest.approx(exact.tolist(), rel=1e-3)


sizes = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**20))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(sizes, st.floats(0, 3), st.randoms(use_true_random=False))
def test_properties(case, alpha, random):
    n, h, i, seed = case
    router, gate = draw(n, h, i, seed)
    moved = plain.proxies(router, seeded(seed))
    distance = torch.cdist(moved, router)
    assert bool((distance.diagonal() <= distance.amin(1) + 1e-9).all())  # the bound: still nearest to its own row
    norms = plain.activation_norms(router, gate)
    loss = plain.erc_loss(norms, alpha)
    assert float(loss) >= float(plain.erc_loss(norms, alpha + 0.5)) >= 0  # a larger α allows more
    order = list(range(n))
    random.shuffle(order)
    shuffled = plain.activation_norms(router[order], gate[order])
    assert float(plain.erc_loss(shuffled, alpha)) == pytest.approx(float(loss))
    assert float(plain.erc_loss(norms.T, alpha)) == pytest.approx(float(loss))  # rows and columns count alike
    assert float(plain.erc_loss(4 * norms, alpha)) == pytest.approx(4 * float(loss))


def test_the_cost_equals_the_papers():
    """Table of arXiv 2512.23447: 3e6 tokens a step, top-8; 64 experts on 32 devices, 256 on 64 with 8-way experts."""
    assert 100 * plain.erc_cost(64, 8, 3e6, dp=32, ep=1) == pytest.approx(0.18, abs=0.005)
    assert 100 * plain.erc_cost(256, 8, 3e6, dp=64, ep=8) == pytest.approx(0.72, abs=0.01)
    assert plain.erc_cost(64, 8, 4096) == pytest.approx(64**2 / (3 * 8 * 4096))
    with pytest.raises(ValueError, match="tokens: expected a number above 0, got 0"):
        plain.erc_cost(64, 8, 0)


def test_gate_norms_are_a_column_of_m(ops):
    router, gate = draw(5, 4, 3)
    columns = [ops.gate_norms(router, w) for w in gate]
    assert torch.equal(torch.stack(columns, dim=1), plain.activation_norms(router, gate))
    x, w = router.tolist(), gate[2].tolist()
    by_hand = [math.hypot(*(sum(row[h] * w[h][i] for h in range(4)) for i in range(3))) for row in x]
    assert columns[2].tolist() == pytest.approx(by_hand)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_gate_norms_dtype(ops, dtype):
    inputs, gates = draw(5, 64, 8)
    result = ops.gate_norms(inputs.to(dtype), gates[0].to(dtype))
    assert result.dtype == (torch.float32 if dtype is torch.bfloat16 else dtype)
    assert result.tolist() == pytest.approx(ops.gate_norms(inputs, gates[0]).tolist(), rel=0.02)


REFUSED = {
    "router shape": (lambda: plain.noise_bound(torch.ones(3)), r"router_NH: expected shape \[N, H\]"),
    "router integers": (lambda: plain.proxies(torch.ones(3, 2).long(), seeded()), "router_NH: expected a tensor of fl"),
    "gate shape": (
        lambda: plain.activation_norms(torch.ones(3, 2), torch.ones(3, 4, 2)),
        r"gate_NHI: expected shape \[3, 2, 'I'\], a matrix for each proxy, got \[3, 4, 2\]",
    ),
    "widths": (lambda: plain.gate_norms(torch.ones(2, 3), torch.ones(4, 5)), r"gate_HI: expected shape \[3, 'I'\]"),
    "not square": (lambda: plain.erc_loss(torch.ones(2, 3), 1), "norms_NN: expected as many rows as columns"),
    "alpha": (lambda: plain.erc_loss(torch.ones(2, 2), -1), "alpha: expected a finite number of at least 0, got -1"),
    "alpha NaN": (lambda: plain.erc_loss(torch.ones(2, 2), math.nan), "alpha: expected a finite number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()
