"""Costs of pairings against the loss of a permuted matrix, norms without scale, orthogonality of router rows."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout import ops as plain


def router_and_gate(n, h, i):
    return draw(n, h), draw(n, h, i, seed=1)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


sizes = st.integers(1, 7)
alphas = st.floats(0, 4)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(sizes, alphas, st.integers(0, 2**20))
def test_a_pairing_costs_the_loss_of_the_permuted_matrix(n, alpha, seed):
    norms = draw(n, n, seed=seed).abs()
    costs = plain.pairing_costs(norms, alpha)
    pairing = list(range(n))
    for _ in range(3):
        permuted = float(plain.erc_loss(norms[:, pairing], alpha))
        assert float(costs[range(n), pairing].sum()) == pytest.approx(permuted, abs=1e-12)
        random.Random(seed).shuffle(pairing)


def test_the_mean_cost_is_that_of_all_pairings(ops):
    from itertools import permutations

    norms = draw(4, 4).abs()
    for alpha in (0.5, 1, 2):
        losses = [float(ops.erc_loss(norms[:, list(p)], alpha)) for p in permutations(range(4))]
        mean = float(4 * ops.pairing_costs(norms, alpha).mean())
        assert mean == pytest.approx(sum(losses) / len(losses))


REFUSED = {
    "square": (lambda: plain.pairing_costs(torch.ones(2, 3), 1), "norms_NN: expected as many rows as columns"),
    "alpha": (lambda: plain.pairing_costs(torch.ones(2, 2), -1), "alpha: expected a finite number of at least 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_scale_free_norms_equal_those_of_unit_rows_and_matrices(ops):
    router, gate = (x.requires_grad_() for x in router_and_gate(4, 5, 3))
    lengths = ops.matrix_lengths(gate)
    assert lengths.tolist() == pytest.approx([float(w.detach().norm()) for w in gate])
    assert torch.autograd.gradcheck(ops.matrix_lengths, (gate,))

    def result(router, gate):
        return ops.scale_free(ops.activation_norms(router, gate), router.norm(dim=1), ops.matrix_lengths(gate))

    unit_router, unit_gate = (
        router / router.norm(dim=1, keepdim=True),
        gate / gate.flatten(1).norm(dim=1)[:, None, None],
    )
    torch.testing.assert_close(result(router, gate), ops.activation_norms(unit_router, unit_gate))
    torch.testing.assert_close(result(7 * router, gate / 3), result(router, gate))
    assert torch.autograd.gradcheck(result, (router, gate))
    weight = torch.rand(4, 4, dtype=torch.float64)
    (result(router, gate) * weight).sum().backward()
    assert float((router.grad * router.detach()).sum()) == pytest.approx(0, abs=1e-12)  # no gradient along the norms
    assert float((gate.grad * gate.detach()).sum()) == pytest.approx(0, abs=1e-12)


def test_scale_free_norms_of_zeros(ops):
    router, gate = router_and_gate(3, 4, 2)
    router[0], gate[2] = 0, 0
    router.requires_grad_(), gate.requires_grad_()
    norms = ops.scale_free(ops.activation_norms(router, gate), router.norm(dim=1), ops.matrix_lengths(gate))
    assert norms[0].tolist() == norms[:, 2].tolist() == [0, 0, 0]
    norms.sum().backward()
    assert bool(router.grad.isfinite().all())
    assert bool(gate.grad.isfinite().all())


def test_router_orthogonality(ops):
    router, _ = router_and_gate(5, 7, 1)
    pairs = [(a, b) for a in range(5) for b in range(5) if a != b]
    by_hand = sum(float(torch.cosine_similarity(router[a], router[b], dim=0)) ** 2 for a, b in pairs) / len(pairs)
    assert float(ops.router_orthogonality(router)) == pytest.approx(by_hand)
    assert float(ops.router_orthogonality(3 * torch.eye(4))) == 0
    assert float(ops.router_orthogonality(torch.ones(3, 2))) == pytest.approx(1)
    assert float(ops.router_orthogonality(router[:1])) == 0
    assert torch.autograd.gradcheck(ops.router_orthogonality, (router.requires_grad_(),))
    zero = torch.zeros(3, 2, requires_grad=True)
    ops.router_orthogonality(zero).backward()
    assert bool(zero.grad.isfinite().all())
