"""Coupling a model: the size of the term, its gradient, when it is added, and undoing it."""

import copy
import math
import pickle

import pytest
import torch
from coupling.plain import IDS, expected_term, gradients, loss_of
from tiny import FAMILIES, random_model

import turnout
from turnout.coupling import Coupling, coupling_of
from turnout.errors import ModelError, RecipeError
from turnout.models.wrap.anatomy import read
from turnout.models.wrap.gates import gate_matrices, router_rows

READABLE = [family for family in FAMILIES if family not in {"llama4_text", "jetmoe", "llama", "turnout_aoe"}]


@pytest.mark.parametrize("family", READABLE)
def test_the_term_and_its_gradient_in_every_family(family):
    model = random_model(family).train()
    loss_of(model).backward()
    before, plain = gradients(model), float(loss_of(model).detach())
    (3 * expected_term(model)).backward()
    of_term = gradients(model)
    turnout.couple(model, weight=3, noise=False)
    loss = loss_of(model)
    assert float(loss.detach()) == pytest.approx(plain + float(3 * expected_term(model).detach()), rel=1e-5)
    loss.backward()
    assert float(expected_term(model).detach()) > 0.1
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, before[name] + of_term.get(name, 0), rtol=1e-4, atol=1e-5)


def test_nothing_is_added_outside_training_and_logits_and_state_do_not_change():
    model = random_model("olmoe")
    keys, evaluated = list(model.state_dict()), model(input_ids=IDS, labels=IDS)
    trained = model.train()(input_ids=IDS, labels=IDS)
    coupling = turnout.couple(model)
    assert list(model.state_dict()) == keys
    now = model(input_ids=IDS, labels=IDS)
    assert now.loss > trained.loss
    assert torch.equal(now.logits, trained.logits)
    assert model(input_ids=IDS).loss is None
    assert model(input_ids=IDS, labels=IDS, return_dict=False)[0] > trained.loss
    assert coupling.added == 2
    with torch.no_grad():
        assert torch.equal(loss_of(model), trained.loss)
    model.eval()
    assert torch.equal(loss_of(model), evaluated.loss)
    assert coupling.added == 2


def test_uncouple_restores_loss_and_hooks():
    model = random_model("olmoe").train()
    plain = loss_of(model)
    hooks = {id(m): (len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()}
    coupling = turnout.couple(read(model))
    assert isinstance(coupling, Coupling)
    assert coupling_of(model) is coupling
    with pytest.raises(ModelError, match="expected a model that is not coupled, got a coupled one; uncouple it first"):
        turnout.couple(model)
    turnout.uncouple(model)
    assert {id(m): (len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()} == hooks
    assert torch.equal(loss_of(model), plain)
    with pytest.raises(ModelError, match="expected a coupled model"):
        turnout.uncouple(model)
    turnout.couple(model)
    assert loss_of(model) > plain


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_has_its_own_coupling(copied):
    model = random_model("olmoe").train()
    first = turnout.couple(model, weight=5)
    loss_of(model).backward()
    twin = copied(model)
    second = coupling_of(twin)
    assert torch.equal(loss_of(model), loss_of(twin))
    torch.optim.SGD(twin.parameters(), lr=0.0).step()
    assert (first.step, second.step) == (0, 1)
    turnout.uncouple(twin)
    assert loss_of(model) > loss_of(twin)


@pytest.mark.parametrize(
    ("gradient", "moved"), [("router", {"router"}), ("gate", {"gate"}), ("both", {"router", "gate"})]
)
def test_gradient_of_routers_gates_or_both(gradient, moved):
    model = random_model("olmoe").train()
    loss_of(model).backward()
    before = gradients(model)
    turnout.couple(model, gradient=gradient)
    loss_of(model).backward()
    changed = {n for n, g in gradients(model).items() if not torch.allclose(g, before[n], atol=1e-7)}
    names = {"router": "mlp.gate.weight", "gate": "experts.gate_up_proj"}
    assert changed == {f"model.layers.{i}.mlp.{names[m].removeprefix('mlp.')}" for i in range(3) for m in moved}


@pytest.mark.parametrize("frozen", ["experts", "gate.weight", "mlp"])
def test_frozen_parameters_stay_frozen(frozen):
    model = random_model("olmoe").train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(frozen not in name)
    plain = float(loss_of(model).detach())
    turnout.couple(model)
    loss = loss_of(model)
    assert float(loss.detach()) > plain
    loss.backward()
    assert all((p.grad is None) == (frozen in name) for name, p in model.named_parameters())


def test_layers_alpha_and_reduction():
    model = random_model("qwen2_moe").train()  # MoE layers 0 and 2
    plain = loss_of(model)
    cases = [
        ({"alpha": 0.5}, expected_term(model, 0.5)),
        ({"reduction": "sum"}, expected_term(model, reduction=torch.sum)),
        ({"layers": [2]}, expected_term(model, layers=[2])),
        (
            {"alpha": {0: 0.5, 2: 2}, "reduction": "sum"},
            expected_term(model, 0.5, layers=[0]) + expected_term(model, 2, layers=[2]),
        ),
        ({"alpha": lambda step: 0.5 + step}, expected_term(model, 0.5)),
    ]
    for options, expected in cases:
        turnout.couple(model, noise=False, **options)
        torch.testing.assert_close(loss_of(model) - plain, expected, rtol=1e-4, atol=1e-5)
        turnout.uncouple(model)


def test_descent_on_the_coupled_loss_lowers_the_term():
    """The manipulation check: descent on the coupled loss brings the term near 0; on the plain loss it does not."""
    ends = {}
    for weight in (0.0, 10.0):
        model = random_model("olmoe", num_hidden_layers=1).train()
        start = float(expected_term(model).detach())
        turnout.couple(model, weight=weight)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
        for _ in range(40):
            loss_of(model).backward()
            optimizer.step()
            optimizer.zero_grad()
        ends[weight] = float(expected_term(model).detach()) / start
    assert ends[10.0] < 0.1
    assert ends[0.0] > 0.5


def test_weight_zero_only_computes_figures():
    model = random_model("olmoe").train()
    plain = loss_of(model)
    coupling = turnout.couple(model, weight=0)
    assert torch.equal(loss_of(model), plain)
    assert (coupling.figures, coupling.added) == ({}, 0)
    coupling.watching = True
    assert torch.equal(loss_of(model), plain)
    layer = read(model).layers[0]
    figures = coupling.figures[0]
    assert float(figures.router_norm) == pytest.approx(float(router_rows(layer).detach().norm()))
    assert float(figures.gate_norm) == pytest.approx(float(gate_matrices(layer).detach().norm()), rel=1e-5)


def test_notes_name_what_the_paper_did_not_test():
    assert turnout.couple(random_model("olmoe")).notes == ()
    assert "sigmoid routers in layers [1, 2]" in turnout.couple(random_model("deepseek_v3")).notes[0]


def test_one_expert_cannot_be_coupled():
    with pytest.raises(ModelError, match=r"layer 0: expected at least two experts to choose among, got one"):
        turnout.couple(random_model("granitemoe", num_local_experts=1, num_experts_per_tok=1))


REFUSED = {
    "dense": ("llama", {}, ModelError, "expected a Mixture-of-Experts model"),
    "no router": ("turnout_aoe", {}, ModelError, "expected a router with a weight of one row an expert"),
    "alpha": ("olmoe", {"alpha": -1}, RecipeError, "alpha: expected finite numbers of 0 or more, got -1"),
    "alpha NaN": ("olmoe", {"alpha": math.nan}, RecipeError, "alpha: expected finite numbers"),
    "alpha of a layer": ("olmoe", {"alpha": {0: 1}}, RecipeError, "alpha: expected a number for layer 1, got none"),
    "negative schedule": ("olmoe", {"alpha": lambda step: -1}, RecipeError, "alpha: expected finite numbers"),
    "weight": ("olmoe", {"weight": -1}, RecipeError, "weight: expected 0 or more, got -1"),
    "gradient": ("olmoe", {"gradient": "all"}, RecipeError, "gradient: expected 'both', 'router' or 'gate', got 'all'"),
    "pairing": ("olmoe", {"pairing": "none"}, RecipeError, "pairing: expected 'own' or 'permuted'"),
    "layers": ("qwen2_moe", {"layers": [1]}, ModelError, r"layers: expected MoE layers, of \[0, 2\], got 1"),
    "no layers": ("olmoe", {"layers": []}, ModelError, "got none"),
    "place": (
        "olmoe",
        {"place": "down"},
        RecipeError,
        "place: expected 'gate', 'up', 'activated', 'gated' or 'output'",
    ),
    "no activation": ("gpt_oss", {"place": "activated"}, ModelError, "expected experts with an activation function"),
    "gates alone": ("olmoe", {"term": "orthogonality", "gradient": "gate"}, RecipeError, "orthogonality has no gates"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_without_changing_the_model(name):
    family, options, kind, message = REFUSED[name]
    model = random_model(family)
    with pytest.raises(kind, match=message) as raised:
        turnout.couple(model, **options)
    assert "\n" not in str(raised.value)
    assert coupling_of(model) is None
