"""The "turnout" experts against transformers' eager ones: outputs, gradients, dtypes, padding."""

import json

import pytest
import torch
from tiny import random_model
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from turnout.models.fast.experts import NAME, fast_experts, real_tokens, set_fast_experts, sorted_experts

FAMILIES = ["olmoe", "qwen2_moe", "qwen3_moe", "deepseek_v2", "mixtral", "gpt_oss", "deepseek_v3", "lfm2_moe", "phimoe"]
TOKENS = torch.randint(0, 256, (3, 17), generator=torch.Generator().manual_seed(1))


def experts_of(model):
    return next(m for n, m in model.named_modules() if n.endswith(".experts"))


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_eager_forward_and_backward(family):
    outputs, gradients = [], []
    for implementation in ("eager", NAME):
        model = random_model(family)
        model.set_experts_implementation(implementation)
        logits = model(TOKENS).logits
        logits.square().mean().backward()
        outputs.append(logits.detach())
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_eager_in_inference_and_under_autocast(family):
    model = random_model(family)
    with torch.no_grad():
        model.set_experts_implementation("eager")
        expected = model(TOKENS).logits
        with torch.autocast("cpu", torch.bfloat16):
            low = model(TOKENS).logits
        set_fast_experts(model)
        torch.testing.assert_close(model(TOKENS).logits, expected, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert (model(TOKENS).logits - expected).abs().median() <= 1.5 * (low - expected).abs().median()


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v2", "gpt_oss"])
def test_bfloat16_is_within_rounding_of_float32(family):
    model = random_model(family)
    experts = experts_of(model)
    hidden = torch.randn(40, 32, generator=torch.Generator().manual_seed(2))
    index = torch.rand(40, experts.num_experts, generator=torch.Generator().manual_seed(3)).topk(2).indices
    weight = torch.rand(40, 2, generator=torch.Generator().manual_seed(4))
    model.set_experts_implementation("eager")
    exact = experts(hidden, index, weight)
    low = experts.to(torch.bfloat16)
    theirs = low(hidden.bfloat16(), index, weight.bfloat16())
    ours = sorted_experts(low, hidden.bfloat16(), index, weight.bfloat16())
    with torch.no_grad():
        inferred = sorted_experts(low, hidden.bfloat16(), index, weight)  # some routers leave weights in float32
    for out in (ours, inferred):
        assert out.dtype == torch.bfloat16
        assert (out - exact).abs().max() <= 1.5 * (theirs - exact).abs().max()


def test_no_gate_experts_equal_eager():
    from transformers import NemotronHConfig
    from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHExperts

    config = NemotronHConfig(hidden_size=16, moe_intermediate_size=12, n_routed_experts=4)
    experts = NemotronHExperts(config)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    config._experts_implementation = "eager"
    hidden, index = torch.randn(9, 16), torch.randint(0, 4, (9, 1))
    weight = torch.rand(9, 1)
    torch.testing.assert_close(sorted_experts(experts, hidden, index, weight), experts(hidden, index, weight))


def test_an_index_out_of_range_and_padding_reach_no_expert():
    model = random_model("mixtral")
    experts, hidden = experts_of(model), torch.randn(5, 32)
    weight = torch.ones(5, 2)
    index = torch.tensor([[0, 1], [4, 4], [2, 4], [3, 0], [1, 2]])
    with torch.no_grad():
        out = sorted_experts(experts, hidden, index, weight)
        alone = sorted_experts(experts, hidden[2:3], index[2:3, :1], weight[2:3, :1])
        with real_tokens(torch.tensor([True, False, True, True, False])):
            masked = sorted_experts(experts, hidden, index, weight)
        nothing = sorted_experts(experts, hidden, torch.full((5, 2), 4), weight)
    assert not out[1].any()
    torch.testing.assert_close(out[2:3], alone)
    assert not masked[[1, 4]].any()
    torch.testing.assert_close(masked[[0, 2, 3]], out[[0, 2, 3]])
    assert not nothing.any()


def test_the_context_restores_and_nothing_is_saved(tmp_path):
    model = random_model("olmoe")
    before = model.config._experts_implementation
    inside = []

    def interrupted():
        inside.append(model.config._experts_implementation)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), fast_experts(model):
        interrupted()
    assert inside == [NAME]
    assert model.config._experts_implementation == before
    set_fast_experts(model)
    model.save_pretrained(tmp_path)
    assert NAME not in json.dumps(json.loads((tmp_path / "config.json").read_text()))


def test_it_is_registered_with_transformers():
    assert ALL_EXPERTS_FUNCTIONS[NAME] is sorted_experts


def test_training_allocates_no_gradient_larger_than_the_weights():
    """Indexing a fused weight for each expert would allocate E gradients of the whole: E times the memory."""
    model = random_model("olmoe")
    set_fast_experts(model)
    experts = experts_of(model)
    sizes = []
    experts.gate_up_proj.register_hook(lambda g: sizes.append(g.shape))
    model(TOKENS).logits.mean().backward()
    assert sizes == [experts.gate_up_proj.shape]
