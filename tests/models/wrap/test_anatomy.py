"""Routers and experts of every family, refusals by reason, digests, and the router contract."""

import pytest
import torch
from tiny import random_model
from torch import nn

from turnout.errors import ModelError
from turnout.models.forward.capture import capture
from turnout.models.wrap.anatomy import MoELayer, read
from turnout.models.wrap.contract import contract_violation

# family: (layers, experts, chosen, shared, scoring), as the configurations in tiny.py make them
EXPECTED = {
    "olmoe": ([0, 1, 2], 8, 2, 0, "softmax"),
    "qwen2_moe": ([0, 2], 8, 3, 1, "softmax"),
    "qwen3_moe": ([0, 1, 2], 8, 2, 0, "softmax"),
    "deepseek_v2": ([1, 2], 8, 3, 2, "softmax"),
    "mixtral": ([0, 1, 2], 4, 2, 0, "softmax"),
    "gpt_oss": ([0, 1, 2], 8, 2, 0, "softmax"),
    "deepseek_v3": ([1, 2], 8, 2, 1, "sigmoid"),
    "glm4_moe": ([1, 2], 8, 2, 1, "sigmoid"),
    "ernie4_5_moe": ([1, 2], 8, 2, 2, "softmax"),
    "granitemoe": ([0, 1, 2], 8, 2, 0, "softmax"),
    "lfm2_moe": ([1, 2], 8, 2, 0, "sigmoid"),
    "phimoe": ([0, 1, 2], 8, 2, 0, "softmax"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", EXPECTED)
def test_families(family, dtype):
    moe = read(random_model(family).to(dtype))
    layers, experts, chosen, shared, scoring = EXPECTED[family]
    assert [layer.layer for layer in moe.layers] == layers
    for layer in moe.layers:
        assert (layer.n_experts, layer.top_k, layer.n_shared, layer.scoring) == (experts, chosen, shared, scoring)
        assert moe.model.get_submodule(layer.name) is layer.router
        assert layer.experts.down_proj.shape[0] == experts
    assert moe.max_length == 512


@pytest.mark.parametrize(
    ("family", "overrides", "reason"),
    [
        ("llama", {}, "LlamaForCausalLM, a dense model"),
        ("qwen3_moe", {"decoder_sparse_step": 9}, "a dense model"),
        ("llama4_text", {}, r"router returning \(float32\[32, 4\], float32\[32, 4\]\)"),
        ("jetmoe", {}, "without fused experts near"),
    ],
)
def test_refusals_name_the_reason(family, overrides, reason):
    with pytest.raises(ModelError, match=reason):
        read(random_model(family, **overrides))


def test_encoder_decoders_are_refused():
    from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

    config = SwitchTransformersConfig(
        vocab_size=64, d_model=8, d_kv=4, d_ff=8, num_heads=2, num_layers=2, num_experts=2
    )
    with pytest.raises(ModelError, match="an encoder-decoder"):
        read(SwitchTransformersForConditionalGeneration(config))


class ZeroExpertRouter(nn.Module):
    """Logits of one expert more than there are, as a router with a zero expert returns."""

    def forward(self, hidden):
        logits = hidden.reshape(-1, 32)[:, :9]
        weights, indices = logits.softmax(-1).topk(2)
        return logits, weights, indices


class SquaredRouter(nn.Module):
    """The right shapes, with squares as weights: neither softmax nor sigmoid."""

    def forward(self, hidden):
        logits = hidden.reshape(-1, 32)[:, :8]
        chosen, indices = logits.topk(2)
        return logits, chosen.square() + 1, indices


class TwiceRouter(nn.Module):
    """Every token chooses expert 0 twice."""

    def forward(self, hidden):
        logits = hidden.reshape(-1, 32)[:, :8]
        indices = torch.zeros(len(logits), 2, dtype=torch.int64)
        return logits, logits.softmax(-1).gather(1, indices), indices


@pytest.mark.parametrize(
    ("router", "reason"),
    [
        (ZeroExpertRouter, r"float32\[32, 9\].* with T = 32, E = 8"),
        (SquaredRouter, "proportional neither"),
        (TwiceRouter, "an expert twice"),
    ],
)
def test_routers_of_another_form_are_refused(router, reason):
    model = random_model("olmoe")
    model.model.layers[1].mlp.gate = router()
    with pytest.raises(ModelError, match=rf"layer 1 .*{reason}"):
        read(model)


def test_a_forward_that_fails_is_one_line():
    model = random_model("olmoe")
    model.model.layers[1].self_attn.q_proj.weight.data = torch.zeros(32, 31)
    with pytest.raises(ModelError, match="expected a forward of 2 × 16 token ids, got RuntimeError: ") as caught:
        read(model)
    assert "\n" not in str(caught.value)


def test_a_router_that_is_never_called_is_refused():
    model = random_model("olmoe")
    model.config.num_hidden_layers = 2  # the third layer has weights and is not run
    with pytest.raises(ModelError, match=r"layer 2 .*no router beside the experts"):
        read(model)


def test_a_model_that_is_not_causal_is_refused():
    model = random_model("olmoe")
    layer = model.model.layers[0]
    layer.register_forward_pre_hook(lambda _, args: (args[0] + args[0].flip(1), *args[1:]))
    with pytest.raises(ModelError, match="a causal model"):
        read(model)


@pytest.mark.parametrize(
    ("family", "scoring"), [("deepseek_v3", "sigmoid"), ("glm4_moe", "sigmoid"), ("mixtral", "softmax")]
)
@pytest.mark.parametrize("top_k", [1, 2])
def test_scoring_is_recognized_at_small_logits_and_for_top_1(family, scoring, top_k):
    model = random_model(family, num_experts_per_tok=top_k, initializer_range=0.001).bfloat16()
    moe = read(model)
    assert {layer.scoring for layer in moe.layers} == {scoring}
    assert {layer.top_k for layer in moe.layers} == {top_k}
    assert {layer.router.top_k for layer in moe.layers} == {top_k}


class OwnRouter(nn.Module):
    """A router that normalizes its input: scaling that changes nothing.

    Args:
        returned: what it returns first: "logits", "scores", or "square" of a score, which is none.
        score: "softmax" or "sigmoid".
        scale: of its rows; 0 is a router before its first step.
    """

    def __init__(self, returned, score, scale, top_k=2):
        super().__init__()
        rows = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
        self.weight, self.returned, self.score = nn.Parameter(scale * rows), returned, score
        self.top_k = top_k

    def forward(self, hidden):
        hidden = nn.functional.rms_norm(hidden.reshape(-1, 32), (32,))
        logits = nn.functional.linear(hidden, self.weight)
        scores = logits.softmax(-1) if self.score == "softmax" else logits.sigmoid()
        weights, indices = scores.topk(self.top_k)
        first = {"logits": logits, "scores": scores, "square": scores.square()}[self.returned]
        return first, weights, indices


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 100.0])
@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
@pytest.mark.parametrize("returned", ["logits", "scores"])
def test_what_a_router_returns_is_recognized_at_any_scale(returned, score, scale, top_k, dtype):
    model = random_model("olmoe")
    model.model.layers[1].mlp.gate = OwnRouter(returned, score, scale, top_k)
    layer = read(model.to(dtype)).layers[1]
    assert layer.scoring == ("scores" if returned == "scores" else score)
    hidden = torch.randn(5, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    first, *_ = layer.router(hidden)
    logits = nn.functional.rms_norm(hidden, (32,)) @ layer.router.weight.T
    expected = logits.float().softmax(-1) if score == "softmax" else logits.float().sigmoid()
    close = {"atol": 0.01, "rtol": 0.02} if dtype == torch.bfloat16 else {"atol": 1e-6, "rtol": 1e-5}
    torch.testing.assert_close(layer.scores(first), expected / expected.sum(-1, keepdim=True), **close)


def test_scores_that_the_weights_do_not_follow_are_refused():
    model = random_model("olmoe")
    model.model.layers[1].mlp.gate = OwnRouter("square", "sigmoid", 0.01)
    with pytest.raises(ModelError, match="and no scores in their place"):
        read(model)


@pytest.mark.parametrize("factor", [1.0, None], ids=["fresh", "trained"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3])
def test_gemma4_returns_probabilities(scale, dtype, factor):
    """They are the scores: a second softmax would make every token undecided."""
    model = random_model("gemma4_text").to(dtype)
    for block in model.model.layers:
        block.router.proj.weight.data *= scale
        if factor is not None:
            block.router.per_expert_scale.data.fill_(factor)
    moe = read(model)
    logits = []
    handle = moe.layers[1].router.proj.register_forward_hook(lambda _, __, output: logits.append(output.float()))
    (trace,) = [t for t in capture(moe, [[5, 6, 7, 8]], experts=None).layers if t.layer == 1]
    handle.remove()
    expected = logits[0].softmax(-1)[-1:]
    torch.testing.assert_close(trace.scores_BE, expected, atol=1e-6, rtol=1e-5)
    assert {layer.scoring for layer in moe.layers} == {"scores"}


def test_scores_sum_to_one_and_are_the_routers_own():
    logits = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.bfloat16)
    layer = MoELayer(0, "r", nn.Identity(), nn.Identity(), 3, 1, 0, "softmax")
    torch.testing.assert_close(layer.scores(logits), logits.float().softmax(-1))
    layer = MoELayer(0, "r", nn.Identity(), nn.Identity(), 3, 1, 0, "sigmoid")
    sigmoid = logits.float().sigmoid()
    torch.testing.assert_close(layer.scores(logits), sigmoid / sigmoid.sum())
    layer = MoELayer(0, "r", nn.Identity(), nn.Identity(), 3, 1, 0, "scores")
    assert torch.equal(layer.scores(torch.tensor([[0.5, 0.25, 0.25]])), torch.tensor([[0.5, 0.25, 0.25]]))
    assert layer.scores(logits).dtype == torch.float32


def test_reading_restores_the_model():
    model = random_model("deepseek_v3")
    model.train()
    model.model.layers[0].eval()
    modes = {n: m.training for n, m in model.named_modules()}
    before = {n: t.clone() for n, t in model.state_dict().items()}
    read(model)
    assert modes == {n: m.training for n, m in model.named_modules()}
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_digest_depends_on_every_bit_of_the_weights_and_nothing_else():
    first, same = read(random_model("deepseek_v3")), read(random_model("deepseek_v3"))
    digest = first.digest()
    assert digest == same.digest()
    assert len(digest) == 64
    bias = same.layers[-1].router.e_score_correction_bias  # a buffer
    bias[0] += 1e-6
    assert digest != same.digest()
    assert digest != read(random_model("deepseek_v3", seed=1)).digest()
    low = read(random_model("deepseek_v3").bfloat16()).digest()
    assert low != digest
    first.model.set_experts_implementation("eager")
    assert first.digest() == digest


def test_describe_is_json():
    import json

    moe = read(random_model("deepseek_v2"), model_id="tiny", revision="main")
    described = json.loads(json.dumps(moe.describe()))
    assert described["id"] == "tiny"
    assert described["revision"] == "main"
    assert described["architecture"] == "DeepseekV2ForCausalLM"
    assert described["dtype"] == "float32"
    assert described["parameters"] == sum(p.numel() for p in moe.model.parameters())
    assert (described["layers"], described["experts"], described["top_k"], described["shared"]) == ([1, 2], 8, 3, 2)
    assert described["digest"] == moe.digest()


def test_contract_violations_are_specific():
    good = (torch.zeros(4, 3), torch.zeros(4, 2), torch.tensor([[0, 1]] * 4))
    assert contract_violation(good, 4, 3) is None
    assert "indices from 0 to 4" in (contract_violation((*good[:2], good[2] + 3 * torch.eye(4, 2).long()), 4, 3) or "")
    assert contract_violation(good[:2], 4, 3) == "(float32[4, 3], float32[4, 2])"
    assert contract_violation(good[0], 4, 3) == "float32[4, 3]"
    assert contract_violation((good[0], good[1], good[2].float()), 4, 3)
