"""The term's variants: controls, places in the expert, noise, precision."""

import pytest
import torch
from coupling.plain import gradients, loss_of
from tiny import random_model
from torch import nn

import turnout
from turnout import ops
from turnout.coupling.term import permutation
from turnout.models.wrap.anatomy import read
from turnout.models.wrap.gates import gate_matrices, router_rows


def test_autocast_and_half_precision():
    model = random_model("olmoe").train()
    turnout.couple(model, weight=10)
    exact = loss_of(model)
    exact.backward()
    coupled = gradients(model)["model.layers.0.mlp.gate.weight"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.01)
    assert torch.cosine_similarity(gradients(model)["model.layers.0.mlp.gate.weight"], coupled).min() > 0.98
    half = model.to(torch.bfloat16)
    loss = loss_of(half)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.02)


def test_normalized_permuted_and_orthogonal_terms():
    model = random_model("olmoe", num_hidden_layers=1).train()
    plain, layer = loss_of(model), read(model).layers[0]
    rows, gate = router_rows(layer), gate_matrices(layer)
    m = ops.activation_norms(rows, gate)
    unit = m / rows.norm(dim=1)[:, None] / gate.flatten(1).norm(dim=1)[None]
    order = permutation(8, 4, 0)
    assert sorted(order) == list(range(8))
    assert all(i != j for i, j in enumerate(order))
    cosine = torch.corrcoef(rows) * 0 + nn.functional.cosine_similarity(rows[:, None], rows[None], dim=2)
    off = ~torch.eye(8, dtype=torch.bool)
    cases = [
        ({"normalized": True}, ops.erc_loss(unit, 1)),
        ({"pairing": "permuted", "seed": 4}, ops.erc_loss(m[:, order], 1)),
        ({"term": "orthogonality"}, cosine[off].square().mean()),
    ]
    for options, expected in cases:
        turnout.couple(model, noise=False, **options)
        loss = loss_of(model)
        torch.testing.assert_close(loss - plain, expected, rtol=1e-4, atol=1e-5)
        loss.backward()
        turnout.uncouple(model)


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_places_equal_the_stages_of_the_expert(family):
    """M after the last stage is the norm of what the experts module returns for the router's rows."""
    model = random_model(family, num_hidden_layers=1).train()
    layer = read(model).layers[0]
    with torch.no_grad():
        for name, parameter in layer.experts.named_parameters():
            parameter.mul_(0.0 if "bias" in name else 1.0)
    plain, rows = loss_of(model), router_rows(layer)
    each = [layer.experts(rows, torch.full((8, 1), e), torch.ones(8, 1)) for e in range(8)]
    output = torch.stack([x.norm(dim=1) for x in each], dim=1)
    norms = {}
    for place in ("gate", "up", "activated", "gated", "output")[:: 1 if family == "olmoe" else 3]:
        coupling = turnout.couple(model, noise=False, place=place)
        loss = loss_of(model)
        loss.backward()
        norms[place] = coupling.figures[0].norms_NN
        torch.testing.assert_close(loss - plain, ops.erc_loss(norms[place], 1), rtol=1e-4, atol=1e-5)
        turnout.uncouple(model)
    if family == "gpt_oss":
        assert set(norms) == {"gate", "gated"}
        gated = norms["gated"]
        assert bool((gated != norms["gate"]).all())
        turnout.couple(model, noise=False, place="output")
        torch.testing.assert_close(loss_of(model) - plain, ops.erc_loss(output, 1), rtol=1e-4, atol=1e-5)
        return
    torch.testing.assert_close(norms["output"], output.detach())
    fused = layer.experts.gate_up_proj
    gate, up = (x.mT for x in fused.chunk(2, dim=1))
    torch.testing.assert_close(norms["up"], (rows @ up).norm(dim=2).T.detach())
    torch.testing.assert_close(norms["activated"], nn.functional.silu(rows @ gate).norm(dim=2).T.detach())
    torch.testing.assert_close(norms["gated"], (nn.functional.silu(rows @ gate) * (rows @ up)).norm(dim=2).T.detach())


def test_normalized_places_do_not_depend_on_scale():
    model = random_model("olmoe", num_hidden_layers=1).train()
    norms = []
    for scale in (1.0, 3.0):
        with torch.no_grad():
            read(model).layers[0].experts.gate_up_proj.mul_(scale)
            router_rows(read(model).layers[0]).mul_(scale)
        coupling = turnout.couple(model, noise=False, place="output", normalized=True)
        loss_of(model).backward()
        norms.append(coupling.figures[0].norms_NN)
        turnout.uncouple(model)
    torch.testing.assert_close(norms[0], norms[1])


def test_noise_is_new_at_each_optimizer_step_and_constant_within_one():
    model = random_model("olmoe").train()
    coupling = turnout.couple(model, weight=10)
    other = nn.Linear(2, 2)
    own, unrelated = (torch.optim.SGD(m.parameters(), lr=0.0) for m in (model, other))
    first = float(loss_of(model).detach())
    assert float(loss_of(model).detach()) == first
    unrelated.step()
    assert float(loss_of(model).detach()) == first
    own.step(), own.step()  # two optimizers may share a model: one step between two forwards
    second = float(loss_of(model).detach())
    assert (coupling.step, second == first) == (1, False)
    coupling.step = 0
    assert float(loss_of(model).detach()) == first
    turnout.uncouple(model)
    turnout.couple(model, weight=10, seed=1)
    assert float(loss_of(model).detach()) != first


def test_duplicate_and_zero_rows_have_finite_gradients():
    model = random_model("olmoe").train()
    with torch.no_grad():
        rows = router_rows(read(model).layers[0])
        rows[1], rows[2] = rows[0], 0
    turnout.couple(model, normalized=True)
    loss_of(model).backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
