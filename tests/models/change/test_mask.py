"""Masked experts against plain routers of every scoring, with groups, in half precision and in `generate`."""

import pytest
import torch
from models.change.routed import IDS, LETTERS, MOES, PROMPTS, most_chosen, routed, state
from tiny import random_model, tiny_tokenizer

from turnout.errors import ModelError
from turnout.models.change.intervene import fewest_left, mask, with_top_k
from turnout.models.fast.products import fast_linears
from turnout.models.forward.capture import capture
from turnout.models.wrap.anatomy import read


@torch.no_grad()
def plain_router(family, router, hidden, banned, bias=None):
    """Weights [T, E] of the masked router, computed in plain loops from the family's definition."""
    z = hidden.float() @ router.weight.float().T + (router.bias.float() if family == "gpt_oss" else 0)
    out = torch.zeros_like(z)
    keep = torch.tensor([e not in banned for e in range(z.shape[1])])
    for t in range(len(z)):
        left = keep.nonzero().flatten()
        if family in ("deepseek_v3", "glm4_moe", "lfm2_moe"):
            s = z[t].sigmoid()
            choice = s + (bias if family == "lfm2_moe" else router.e_score_correction_bias)
            if family == "deepseek_v3":  # the best two groups of two by the sum over their experts left
                sums = {}
                for g in range(4):
                    members = [e for e in (2 * g, 2 * g + 1) if keep[e]]
                    if members:
                        sums[g] = sum(float(choice[e]) for e in members)
                best = sorted(sums, key=sums.get, reverse=True)[:2]
                left = torch.tensor([e for e in left.tolist() if e // 2 in best])
            top = left[choice[left].argsort(descending=True)[: router.top_k]]
            w = s[top] / s[top].sum() if router.norm_topk_prob else s[top]
            out[t, top] = w * router.routed_scaling_factor
        else:
            p = torch.zeros_like(z[t])
            p[left] = z[t][left].softmax(0)
            top = left[p[left].argsort(descending=True)[: router.top_k]]
            normalize = family in ("mixtral", "gpt_oss", "granitemoe") or getattr(router, "norm_topk_prob", False)
            out[t, top] = p[top] / p[top].sum() if normalize else p[top] * getattr(router, "routed_scaling_factor", 1)
    return out


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("family", MOES)
def test_masked_experts_are_never_chosen(family, renormalise):
    model = random_model(family)
    moe, before = read(model), state(model)
    experts = most_chosen(moe, 2)
    assert all(experts.values())
    _, plain = routed(moe)
    with mask(moe, experts, renormalise=renormalise):
        outputs, logits = routed(moe)
        trace = capture(moe, PROMPTS, letters=LETTERS)
    for layer, read_layer in zip(moe.layers, trace.layers, strict=True):
        assert not torch.isin(outputs[layer.layer][2], torch.tensor(experts[layer.layer])).any()
        assert outputs[layer.layer][2].shape[1] == layer.top_k
        assert read_layer.scores_BE[:, experts[layer.layer]].abs().max() == 0
        assert read_layer.counts_BE[:, experts[layer.layer]].sum() == 0
        torch.testing.assert_close(read_layer.scores_BE.sum(1), torch.ones(3))
    assert (logits - plain).abs().max() > 1e-3
    assert state(model) == before
    assert torch.equal(routed(moe)[1], plain)


@pytest.mark.parametrize(
    "family",
    ["olmoe", "qwen2_moe", "qwen3_moe", "mixtral", "deepseek_v2", "gpt_oss", "granitemoe", "deepseek_v3", "glm4_moe"],
)
def test_weights_are_the_models_own_over_the_experts_left(family):
    moe = read(random_model(family))
    experts = most_chosen(moe, 2)
    layer = moe.layers[-1]
    hidden = torch.randn(20, 32, generator=torch.Generator().manual_seed(1))
    with mask(moe, experts), torch.no_grad():
        _, weights, index = layer.router(hidden)
    applied = torch.zeros(20, layer.n_experts).scatter_(1, index, weights.float())
    expected = plain_router(family, layer.router, hidden, set(experts[layer.layer]))
    torch.testing.assert_close(applied, expected, rtol=1e-4, atol=1e-6)


def test_renormalise_is_the_same_for_softmax_and_not_for_a_sigmoid():
    hidden = torch.randn(20, 32, generator=torch.Generator().manual_seed(1))
    for family, overrides, same in (
        ("olmoe", {}, True),
        ("olmoe", {"norm_topk_prob": True}, True),
        ("deepseek_v3", {"norm_topk_prob": True}, True),
        ("deepseek_v3", {"norm_topk_prob": False}, False),
    ):
        moe = read(random_model(family, **overrides))
        layer = moe.layers[0]
        with torch.no_grad():
            if family == "deepseek_v3":  # else it is small beside rescaled scores, and the choice changes
                layer.router.e_score_correction_bias.zero_()
            with mask(moe, {layer.layer: [0]}):
                _, plain, index = layer.router(hidden)
            with mask(moe, {layer.layer: [0]}, renormalise=True):
                _, rescaled, index_too = layer.router(hidden)
        assert torch.equal(index, index_too)
        if same:
            torch.testing.assert_close(plain, rescaled)
        else:
            with torch.no_grad():
                s = layer.router(hidden)[0].sigmoid()
            factor = s.sum(1) / s[:, 1:].sum(1)
            torch.testing.assert_close(rescaled, plain * factor[:, None], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["olmoe", "qwen3_moe", "deepseek_v2", "gpt_oss", "mixtral", "deepseek_v3"])
def test_in_bfloat16_with_fast_experts_and_generate(family):
    model = random_model(family).to(torch.bfloat16)
    moe = read(model, tiny_tokenizer())
    before, experts = state(model), most_chosen(moe, 1)
    chosen = []
    handles = [
        layer.router.register_forward_hook(lambda _, __, out, n=layer.layer: chosen.append((n, out[2])))
        for layer in moe.layers
    ]
    with mask(moe, experts), fast_linears(model):
        model.generate(IDS, max_new_tokens=3, do_sample=False, pad_token_id=0)
    for handle in handles:
        handle.remove()
    assert len(chosen) == 3 * len(moe.layers)
    assert all(not torch.isin(index, torch.tensor(experts[n])).any() for n, index in chosen)
    with mask(moe, experts):
        trace = capture(moe, PROMPTS, letters=LETTERS)
    assert all(t.counts_BE[:, experts[t.layer]].sum() == 0 for t in trace.layers)
    assert state(model) == before


def test_masking_underflowing_scores():
    """Experts whose softmax underflows to 0 tie with masked ones; the chosen expert is still one that is left."""
    model = random_model("olmoe")
    moe = read(model)
    with torch.no_grad():
        for layer in moe.layers:
            layer.router.weight.mul_(1e4)
    with mask(moe, {layer.layer: range(5) for layer in moe.layers}):
        outputs, _ = routed(moe)
    assert all((index >= 5).all() for _, _, index in outputs.values())


def test_groups_must_keep_enough():
    moe = read(random_model("deepseek_v3"))  # 4 groups of 2, a token chooses 2 groups and 2 experts
    layer = moe.layers[0]
    assert fewest_left(layer, []) == 4
    assert fewest_left(layer, [0, 2, 4, 6]) == 2
    assert fewest_left(layer, [0, 1]) == 4
    assert fewest_left(layer, [0, 1, 2, 3, 4]) == 3
    assert fewest_left(layer, [0, 1, 2, 3, 4, 5, 6]) == 1
    with mask(moe, {layer.layer: [0, 2, 4, 6]}):
        assert set(routed(moe)[0][layer.layer][2].flatten().tolist()) <= {1, 3, 5, 7}
    moe = read(random_model("deepseek_v3", num_experts_per_tok=3))
    with pytest.raises(ModelError, match=r"got 2 after masking 4 of 8 \(in the groups"), mask(moe, {2: [0, 2, 4, 6]}):
        pass
    with pytest.raises(ModelError, match="K from 1 to 4 experts, those of 2 of its 4 groups"), with_top_k(moe, 5):
        pass
