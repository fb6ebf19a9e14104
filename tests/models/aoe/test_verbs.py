"""Autonomy of Experts with the verbs that take a MoE: capture, masking, other K, training, the command line."""

import json

import pytest
import torch
import yaml
from cli.conftest import questions, write_jsonl
from tiny import random_model
from training import texts
from typer.testing import CliRunner

import turnout
from turnout.errors import ModelError
from turnout.models.aoe import AoeConfig
from turnout.models.aoe.configuration import matching_rank
from turnout.models.change.intervene import add_to_logits, mask, with_top_k
from turnout.models.forward.capture import capture
from turnout.models.wrap.anatomy import read
from turnout.training import RoutingCallback, TrainRecipe, train
from turnout.training.balancing import layer_balancing

AOE = "turnout_aoe"
IDS = torch.randint(0, 256, (3, 17), generator=torch.Generator().manual_seed(1))


def test_layers_as_read():
    moe = read(random_model(AOE))
    assert [(layer.n_experts, layer.top_k, layer.n_shared, layer.scoring) for layer in moe.layers] == [
        (8, 2, 0, "softmax")
    ] * 3
    assert moe.layers[0].name == "model.layers.0.mlp.gate"
    assert moe.layers[0].rows() is None  # there are no router rows


def test_captured_scores_are_the_softmax_of_the_norms():
    moe = read(random_model(AOE))
    trace = capture(moe, [IDS[0].tolist()], inputs=True).layers[0]
    x = trace.inputs_BH.float()
    norms = (moe.layers[0].router.weight @ x[0]).norm(dim=-1)
    torch.testing.assert_close(trace.scores_BE[0], norms.softmax(-1), rtol=0.01, atol=1e-4)


def test_masking_reaches_the_output():
    moe = read(random_model(AOE))
    plain_logits = moe.model(IDS).logits
    with mask(moe, {0: [0, 1, 2], 1: [7], 2: [3]}):
        masked = moe.model(IDS, output_router_logits=True)
    for number, experts in {0: [0, 1, 2], 1: [7], 2: [3]}.items():
        assert (masked.router_logits[number].softmax(-1)[:, experts] == 0).all()
    with torch.no_grad():  # the norm of a W_down of zeros is 0, the smallest: it is never chosen
        for number, experts in {0: [0, 1, 2], 1: [7], 2: [3]}.items():
            moe.layers[number].router.weight[experts] = 0
    output = moe.model(IDS, output_router_logits=True)
    chosen = [norms.topk(2).indices for norms in output.router_logits]
    assert all(torch.equal(a, b.topk(2).indices) for a, b in zip(chosen, masked.router_logits, strict=True))
    assert not torch.allclose(masked.logits, plain_logits)


def test_other_budgets_and_shifted_norms():
    moe = read(random_model(AOE))
    with with_top_k(moe, 5) as wider:
        assert capture(wider, [IDS[0].tolist()]).layers[0].counts_BE.sum() == 17 * 5
    shift = torch.tensor([100.0] + [0.0] * 7)
    with add_to_logits(moe, {0: shift}):
        assert capture(moe, [IDS[0].tolist()]).layers[0].counts_BE[0, 0] == 17


def test_a_rank_of_one_is_refused_by_masking():
    moe = read(random_model(AOE, expert_rank=1))
    with pytest.raises(ModelError, match=r"expected one product .* got 2 in AoeRouter"), mask(moe, {0: [1]}):
        moe.model(IDS)
    with pytest.raises(ValueError, match="expert_rank must be at least 1, got 0"):
        AoeConfig(expert_rank=0)


def test_the_load_balancing_loss_reaches_the_first_matrices():
    model = random_model(AOE)
    layers = read(model).layers
    with layer_balancing(layers) as losses:
        model(IDS)
    torch.stack(losses).mean().backward()
    assert all(layer.router.weight.grad.abs().sum() > 0 for layer in layers)


def test_a_short_training_lowers_the_loss_and_is_recorded(tmp_path):
    texts.write_corpus(tmp_path)
    content = texts.recipe(tmp_path, tokens=40 * 4 * 32)
    content["model"]["architecture"] = AOE
    callback = RoutingCallback()
    result = train(TrainRecipe.parse(content), tmp_path / "run", callbacks=[callback])
    fresh = {**content, "schedule": {**content["schedule"], "tokens": 4 * 32, "learning_rate": 1e-9}}
    before = train(TrainRecipe.parse(fresh), tmp_path / "fresh")
    assert all(result.losses[name] < before.losses[name] - 1 for name in ("a", "b"))
    assert set(callback.loads) == {0, 1}
    config = turnout.load(result.model).model.config
    assert (config.num_experts, config.num_experts_per_tok, config.intermediate_size) == (4, 2, 16)
    assert (config.expert_rank, config.router_aux_loss_coef) == (matching_rank(32, 16), 0.01)


def test_train_audit_and_mask_on_the_command_line(tmp_path):
    from turnout.cli.main import app

    def run(*words):
        ran = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert ran.exit_code == 0, ran.stderr
        return ran

    texts.write_corpus(tmp_path)
    content = texts.recipe(tmp_path)
    content["model"] |= {"architecture": AOE, "context": 512}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    run("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run", "--json")
    tasks = write_jsonl(tmp_path / "tasks.jsonl", questions())
    run("audit", tmp_path / "run/model", "--tasks", tasks, "--out", tmp_path / "audit", "--json")
    layers = json.loads((tmp_path / "audit/audit.json").read_text())["layers"]
    assert [(layer["layer"], layer["experts"], layer["top_k"]) for layer in layers] == [(0, 4, 2), (1, 4, 2)]
    assert (tmp_path / "audit/report.html").stat().st_size > 10_000
    masked = run(
        "mask", tmp_path / "audit", "--model", tmp_path / "run/model", "--layers", "1", "--controls", 2, "--json"
    )
    assert len(json.loads(masked.stdout)["targets"]) == 1
