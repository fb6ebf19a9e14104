"""Mean last hidden states and expert inputs against forwards of single prompts."""

import pytest
import torch
from tiny import random_model

from turnout.errors import ModelError
from turnout.models.forward.hidden_states import mean_hidden, visit_experts
from turnout.models.wrap.anatomy import read

PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [9, 8], [30, 31, 32, 33]]


@pytest.mark.parametrize("token_budget", [1, 8, 100])
def test_mean_hidden_equals_single_forwards(token_budget):
    moe = read(random_model("olmoe"))
    with torch.no_grad():
        single = [moe.model.model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in PROMPTS]
    torch.testing.assert_close(mean_hidden(moe, PROMPTS, token_budget), torch.stack(single), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_expert_inputs_equal_single_forwards(family, scope):
    moe = read(random_model(family))
    inputs, routing, visited = {}, {}, []
    for layer in moe.layers:
        layer.experts.register_forward_pre_hook(lambda _, args, n=layer.layer: inputs.setdefault(n, []).append(args[0]))
        layer.router.register_forward_hook(lambda _, __, out, n=layer.layer: routing.setdefault(n, []).append(out))
    with torch.no_grad():
        for prompt in PROMPTS:
            moe.model(input_ids=torch.tensor([prompt]))
    expected = {n: list(zip(inputs[n], routing[n], strict=True)) for n in inputs}
    visit_experts(moe, PROMPTS, visited.append, scope)
    assert [reached.layer for reached in visited] == list(moe.layers)
    for reached in visited:
        for number, (hidden, (logits, _, chosen)) in enumerate(expected[reached.layer.layer]):
            rows, mine = slice(None) if scope == "all" else slice(-1, None), reached.sample_T == number
            torch.testing.assert_close(reached.inputs_TH[mine], hidden.view(-1, 32)[rows], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(reached.logits_TE[mine], logits[rows], rtol=1e-4, atol=1e-5)
            assert torch.equal(reached.chosen_TK[mine], chosen[rows])  # the largest weight first, as transformers sorts


def test_the_last_experts_do_not_run():
    moe, ran = read(random_model("olmoe")), []
    for layer in moe.layers:
        layer.experts.register_forward_hook(lambda *_, n=layer.layer: ran.append(n))
    visit_experts(moe, PROMPTS, lambda reached: None)
    assert ran == [0, 1]


def test_experts_that_are_not_called_are_refused():
    moe = read(random_model("olmoe"))
    moe.model.config.num_hidden_layers = 2
    with pytest.raises(ModelError, match="layer 2: expected one call of its experts in a forward, got none"):
        visit_experts(moe, PROMPTS, lambda reached: None)
