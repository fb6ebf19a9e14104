"""Masks, added logits, replaced weights and other K, against plain routers; the model is restored after each."""

import pytest
import torch
from models.change.routed import IDS, LETTERS, MOES, PROMPTS, routed, state
from tiny import random_model

from turnout.errors import ModelError
from turnout.models.change.intervene import add_to_logits, mask, replace_weights, with_top_k
from turnout.models.forward.capture import capture
from turnout.models.wrap.anatomy import read


def fail_inside(block, model, before):
    with block:
        assert state(model) != before
        raise RuntimeError("inside")


def test_the_model_is_restored_after_an_exception():
    model = random_model("deepseek_v3")
    moe, before = read(model), state(model)
    number = moe.layers[0].layer
    for block in (
        lambda: mask(moe, {number: [1]}),
        lambda: mask(moe, {number: [1]}, renormalise=True),
        lambda: add_to_logits(moe, {number: torch.ones(8)}),
        lambda: replace_weights(moe, {number: torch.ones(8)}),
        lambda: with_top_k(moe, 1),
    ):
        with pytest.raises(RuntimeError, match="inside"):
            fail_inside(block(), model, before)
        assert state(model) == before


def test_refusals_restore_the_model():
    model = random_model("olmoe")
    moe, before = read(model), state(model)
    for experts, words in (
        ({7: [0]}, "MoE layer of"),
        ({0: [8]}, "expert from 0 to 7, got 8"),
        ({0: [-1]}, "expert from 0 to 7"),
        ({0: [0], 1: range(7)}, "at least K = 2 experts left, got 1 after masking 7 of 8"),
    ):
        with pytest.raises(ModelError, match=words), mask(moe, experts):
            pass
    for k in (0, 9):
        with pytest.raises(ModelError, match="K from 1 to 8"), with_top_k(moe, k):
            pass
    assert state(model) == before
    with mask(moe, {0: range(6)}), mask(moe, {0: []}):  # K left is enough; an empty mask has no effect
        assert set(routed(moe)[0][0][2].flatten().tolist()) == {6, 7}


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss", "deepseek_v3", "phimoe"])
def test_add_to_logits(family):
    moe = read(random_model(family))
    layer = moe.layers[0]
    plain, _ = routed(moe)
    delta = torch.randn(layer.n_experts, generator=torch.Generator().manual_seed(0))
    with add_to_logits(moe, {layer.layer: delta}):
        outputs, _ = routed(moe)
    torch.testing.assert_close(outputs[layer.layer][0], plain[layer.layer][0] + delta)
    with add_to_logits(moe, {layer.layer: lambda z: -z}):
        outputs, _ = routed(moe)
    assert outputs[layer.layer][0].abs().max() < 1e-6
    with add_to_logits(moe, {layer.layer: torch.zeros(layer.n_experts)}):
        outputs, _ = routed(moe)
    assert all(torch.equal(a, b) for a, b in zip(outputs[layer.layer], plain[layer.layer], strict=True))


def test_gradient_reaches_what_is_added():
    moe = read(random_model("olmoe"))
    delta = torch.zeros(7, 8, requires_grad=True)
    with add_to_logits(moe, {1: delta}):
        moe.model(input_ids=IDS).logits[0, -1].log_softmax(-1)[3].backward()
    assert delta.grad is not None
    assert delta.grad.abs().sum() > 0


def test_masks_and_additions_nest():
    moe = read(random_model("olmoe"))
    for outer, inner in ((0, 1), (1, 0)):
        blocks = [mask(moe, {0: [3]}), add_to_logits(moe, {0: 100.0 * torch.nn.functional.one_hot(torch.tensor(3), 8)})]
        with blocks[outer], blocks[inner]:
            assert not (routed(moe)[0][0][2] == 3).any()


def test_replace_weights():
    moe = read(random_model("olmoe"))
    plain, logits = routed(moe)
    with replace_weights(moe, {1: lambda weights, index: weights}):
        assert torch.equal(routed(moe)[1], logits)
    with replace_weights(moe, {1: torch.arange(8.0)}):
        outputs, other = routed(moe)
    assert torch.equal(outputs[1][1], outputs[1][2].float())
    assert torch.equal(outputs[1][2], plain[1][2])
    assert not torch.equal(other, logits)
    with pytest.raises(ModelError, match="weights of shape"), replace_weights(moe, {1: lambda w, i: w[:, :1]}):
        routed(moe)


@pytest.mark.parametrize("family", [family for family in MOES if family != "phimoe"])
def test_with_top_k(family):
    model = random_model(family)
    moe, before = read(model), state(model)
    for k in (1, 4):
        with with_top_k(moe, k) as other:
            trace = capture(other, PROMPTS, letters=LETTERS)
        assert [layer.top_k for layer in other.layers] == [k] * len(moe.layers)
        assert all(t.chosen_TK.shape[1] == k for t in trace.layers)
    assert state(model) == before
    with with_top_k(moe, moe.layers[0].top_k):
        pass


def test_a_family_that_does_not_follow_its_top_k_is_refused():
    model = random_model("phimoe")
    moe, before = read(model), state(model)
    words = r"expected 4 chosen experts .* got 2: PhimoeTopKRouter does not follow"
    with pytest.raises(ModelError, match=words), with_top_k(moe, 4):
        pass
    assert state(model) == before
