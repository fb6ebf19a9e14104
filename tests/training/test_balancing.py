"""The load-balancing loss of each layer, and training with it."""

import pytest
import tiny
import torch
from training.texts import recipe, write_corpus

from turnout import TrainRecipe, train
from turnout.models.wrap.anatomy import read
from turnout.training.balancing import layer_balancing, layer_balancing_loss


def test_is_one_at_perfect_balance():
    chosen = torch.tensor([[0, 1], [2, 3], [1, 0], [3, 2]])
    assert layer_balancing_loss(torch.full((4, 4), 0.25), chosen) == pytest.approx(1)


def test_is_the_number_of_experts_if_one_gets_every_token():
    scores = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(5, 4)
    assert layer_balancing_loss(scores, torch.zeros(5, 1, dtype=torch.long)) == pytest.approx(4)


def test_an_example_computed_by_hand():
    scores, chosen = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4]]), torch.tensor([[0, 1], [0, 2]])
    # f = 2/4, 1/4, 1/4; P = 0.6, 0.15, 0.25
    assert layer_balancing_loss(scores, chosen) == pytest.approx(3 * (0.5 * 0.6 + 0.25 * 0.15 + 0.25 * 0.25))


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3"])
def test_every_layer_contributes_and_every_router_gets_a_gradient(family):
    model = tiny.random_model(family)
    layers = read(model).layers
    with layer_balancing(layers) as losses:
        model(input_ids=torch.arange(40)[None])
    assert len(losses) == len(layers)
    torch.stack(losses).mean().backward()
    assert all(layer.router.weight.grad.abs().sum() > 0 for layer in layers)
    with torch.no_grad():
        model(input_ids=torch.arange(40)[None])
    assert len(losses) == len(layers)  # no hook stays


def test_training_with_it_is_better_balanced(tmp_path):
    write_corpus(tmp_path)
    spread = {}
    for weight in (0.0, 5.0):
        content = recipe(tmp_path, tokens=40 * 4 * 32, layer_balancing=weight)
        content["model"]["aux_loss"] = 0
        result = train(TrainRecipe.parse(content), tmp_path / f"run-{weight}")
        model = tiny.AutoModelForCausalLM.from_pretrained(result.model)
        with layer_balancing(read(model).layers) as losses, torch.no_grad():
            model(input_ids=torch.tensor([list(b"a1 gate expert router token layer loss norm head step")]))
        spread[weight] = float(torch.stack(losses).mean())
    assert 0.99 < spread[5.0] < spread[0.0]
