"""The term in a model's loss: its size, its gradient, when it is there, and what it leaves alone."""

import copy
import math
import pickle

import pytest
import torch
from tiny import FAMILIES, random_model
from torch import nn

import turnout
from turnout import ops
from turnout.coupling import Coupling, coupling_of
from turnout.coupling.term import permutation
from turnout.errors import ModelError, RecipeError
from turnout.models.wrap.anatomy import read
from turnout.models.wrap.gates import gate_matrices, router_rows

READABLE = [family for family in FAMILIES if family not in {"llama4_text", "jetmoe", "llama", "turnout_aoe"}]
IDS = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))


def loss_of(model, labels=IDS, **kwargs):
    torch.manual_seed(0)  # Phi-MoE's router jitters while it trains
    return model(input_ids=IDS, labels=labels, **kwargs).loss


def gradients(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def expected_term(model, alpha=1.0, reduction=torch.mean, layers=None):
    """Without noise, from the parameters, by the definition and autograd alone."""
    losses = []
    for layer in read(model).layers:
        if layers is None or layer.layer in layers:
            m = torch.einsum("nh,mhi->nmi", router_rows(layer), gate_matrices(layer)).norm(dim=2)
            d, n = m.diagonal(), len(m)
            off = ~torch.eye(n, dtype=torch.bool)
            losses.append(((m - alpha * d[:, None]).relu() + (m - alpha * d[None]).relu())[off].sum() / n**2)
    return reduction(torch.stack(losses))


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


def test_nothing_is_added_when_not_training_and_logits_and_state_never_change():
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


def test_uncoupled_models_are_as_they_were():
    model = random_model("olmoe").train()
    plain = loss_of(model)
    hooks = {id(m): (len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()}
    coupling = turnout.couple(turnout.models.wrap.anatomy.read(model))
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
def test_a_copy_is_coupled_by_itself(copied):
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
def test_gradient_to_one_side_or_both(gradient, moved):
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


def test_options_of_layers_alpha_and_reduction():
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


def test_normalised_permuted_and_orthogonal_terms():
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
        ({"normalised": True}, ops.erc_loss(unit, 1)),
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
def test_places_are_stages_of_the_expert_itself(family):
    """M after the last stage is the norm of what the experts module returns for the router's rows."""
    model = random_model(family, num_hidden_layers=1).train()
    layer = read(model).layers[0]
    with torch.no_grad():
        for name, parameter in layer.experts.named_parameters():
            parameter.mul_(0.0 if "bias" in name else 1.0)
    plain, rows = loss_of(model), router_rows(layer)
    each = [layer.experts(rows, torch.full((8, 1), e), torch.ones(8, 1)) for e in range(8)]
    output = torch.stack([x.norm(dim=1) for x in each], dim=1)
    found = {}
    for place in ("gate", "up", "activated", "gated", "output")[:: 1 if family == "olmoe" else 3]:
        coupling = turnout.couple(model, noise=False, place=place)
        loss = loss_of(model)
        loss.backward()
        found[place] = coupling.figures[0].norms_NN
        torch.testing.assert_close(loss - plain, ops.erc_loss(found[place], 1), rtol=1e-4, atol=1e-5)
        turnout.uncouple(model)
    if family == "gpt_oss":
        assert set(found) == {"gate", "gated"}
        gated = found["gated"]
        assert bool((gated != found["gate"]).all())
        turnout.couple(model, noise=False, place="output")
        torch.testing.assert_close(loss_of(model) - plain, ops.erc_loss(output, 1), rtol=1e-4, atol=1e-5)
        return
    torch.testing.assert_close(found["output"], output.detach())
    fused = layer.experts.gate_up_proj
    gate, up = (x.mT for x in fused.chunk(2, dim=1))
    torch.testing.assert_close(found["up"], (rows @ up).norm(dim=2).T.detach())
    torch.testing.assert_close(found["activated"], nn.functional.silu(rows @ gate).norm(dim=2).T.detach())
    torch.testing.assert_close(found["gated"], (nn.functional.silu(rows @ gate) * (rows @ up)).norm(dim=2).T.detach())


def test_a_place_of_length_one_is_free_of_scale():
    model = random_model("olmoe", num_hidden_layers=1).train()
    found = []
    for scale in (1.0, 3.0):
        with torch.no_grad():
            read(model).layers[0].experts.gate_up_proj.mul_(scale)
            router_rows(read(model).layers[0]).mul_(scale)
        coupling = turnout.couple(model, noise=False, place="output", normalised=True)
        loss_of(model).backward()
        found.append(coupling.figures[0].norms_NN)
        turnout.uncouple(model)
    torch.testing.assert_close(found[0], found[1])


def test_noise_is_fresh_each_optimiser_step_and_the_same_within_one():
    model = random_model("olmoe").train()
    coupling = turnout.couple(model, weight=10)
    other = nn.Linear(2, 2)
    mine, theirs = (torch.optim.SGD(m.parameters(), lr=0.0) for m in (model, other))
    first = float(loss_of(model).detach())
    assert float(loss_of(model).detach()) == first
    theirs.step()
    assert float(loss_of(model).detach()) == first
    mine.step(), mine.step()  # two optimisers share a model at times: a forward between makes the step
    second = float(loss_of(model).detach())
    assert (coupling.step, second == first) == (1, False)
    coupling.step = 0
    assert float(loss_of(model).detach()) == first
    turnout.uncouple(model)
    turnout.couple(model, weight=10, seed=1)
    assert float(loss_of(model).detach()) != first


def accumulated(model, n, with_items):
    """The gradient of one optimiser step over `n` micro-batches of different numbers of labels."""
    labels = IDS.repeat(n, 1).view(n, *IDS.shape).clone()
    for i in range(n):
        labels[i, :, : 2 * i] = -100
    items = sum((x[:, 1:] != -100).sum() for x in labels)
    for x in labels:
        kwargs = {"num_items_in_batch": items} if with_items else {}
        loss = loss_of(model, x, **kwargs)
        (loss if with_items else loss / n).backward()
    return gradients(model)


@pytest.mark.parametrize("with_items", [True, False], ids=["num_items_in_batch", "loss / n"])
def test_counted_once_under_gradient_accumulation(with_items):
    model = random_model("olmoe").train()
    plain = accumulated(model, 3, with_items)
    expected_term(model).backward()
    term = gradients(model)
    turnout.couple(model, noise=False)
    for name, grad in accumulated(model, 3, with_items).items():
        torch.testing.assert_close(grad, plain[name] + term.get(name, 0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gradient", ["both", "router"])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_gradient_checkpointing_changes_nothing(family, reentrant, gradient):
    model = random_model(family).train()
    coupling = turnout.couple(model, weight=5, gradient=gradient, normalised=True)
    plain = loss_of(model)
    plain.backward()
    expected = gradients(model)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    for scale in (1.0, 0.25):  # reentrant checkpointing must learn the slope of the loss
        loss = loss_of(model)
        torch.testing.assert_close(loss, plain)
        (scale * loss).backward()
        found = gradients(model)
        assert found.keys() == expected.keys()
        for name, grad in found.items():
            torch.testing.assert_close(grad, scale * expected[name], rtol=1e-4, atol=1e-6)
    assert coupling.added == 3


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


def test_with_it_the_loss_falls_to_nothing():
    """The manipulation works: descent on the coupled loss brings the term to near 0, on the plain loss it does not."""
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


def test_a_weight_of_zero_only_watches():
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


def test_duplicate_and_zero_rows_train():
    model = random_model("olmoe").train()
    with torch.no_grad():
        rows = router_rows(read(model).layers[0])
        rows[1], rows[2] = rows[0], 0
    turnout.couple(model, normalised=True)
    loss_of(model).backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_what_the_paper_did_not_test_is_said():
    assert turnout.couple(random_model("olmoe")).notes == ()
    assert "sigmoid routers in layers [1, 2]" in turnout.couple(random_model("deepseek_v3")).notes[0]


def test_one_expert_cannot_be_coupled():
    with pytest.raises(ModelError, match=r"layer 0: expected at least two experts to choose among, got one"):
        turnout.couple(random_model("granitemoe", num_local_experts=1, num_experts_per_tok=1))


REFUSED = {
    "dense": ("llama", {}, ModelError, "expected a Mixture-of-Experts model"),
    "no router": ("turnout_aoe", {}, ModelError, "expected a router with a weight of one row an expert"),
    "alpha": ("olmoe", {"alpha": -1}, RecipeError, "alpha: expected a finite number of at least 0, got -1"),
    "alpha NaN": ("olmoe", {"alpha": math.nan}, RecipeError, "alpha: expected a finite number"),
    "alpha of a layer": ("olmoe", {"alpha": {0: 1}}, RecipeError, "alpha: expected a number for layer 1, got none"),
    "negative schedule": ("olmoe", {"alpha": lambda step: -1}, RecipeError, "alpha: expected a finite number"),
    "weight": ("olmoe", {"weight": -1}, RecipeError, "weight: expected a finite number of at least 0"),
    "gradient": ("olmoe", {"gradient": "all"}, RecipeError, "gradient: expected one of both, router, gate, got 'all'"),
    "pairing": ("olmoe", {"pairing": "none"}, RecipeError, "pairing: expected one of own, permuted"),
    "layers": ("qwen2_moe", {"layers": [1]}, ModelError, r"layers: expected MoE layers, of \[0, 2\], got 1"),
    "no layers": ("olmoe", {"layers": []}, ModelError, "got none"),
    "place": ("olmoe", {"place": "down"}, RecipeError, "place: expected one of gate, up, activated, gated, output"),
    "no activation": ("gpt_oss", {"place": "activated"}, ModelError, "expected experts with an activation function"),
    "gates alone": ("olmoe", {"term": "orthogonality", "gradient": "gate"}, RecipeError, "the term has no gates"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_and_the_model_is_left_alone(name):
    family, options, kind, message = REFUSED[name]
    model = random_model(family)
    with pytest.raises(kind, match=message) as raised:
        turnout.couple(model, **options)
    assert "\n" not in str(raised.value)
    assert coupling_of(model) is None
