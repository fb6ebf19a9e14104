"""Masks, added logits, replaced weights and other K, against plain routers; the model is restored after each."""

import hashlib

import pytest
import torch
from tiny import FAMILIES, random_model, tiny_tokenizer

from turnout.errors import ModelError
from turnout.models.change.intervene import add_to_logits, fewest_left, mask, replace_weights, with_top_k
from turnout.models.fast.products import fast_linears
from turnout.models.forward.capture import capture
from turnout.models.wrap.anatomy import read

MOES = [family for family in FAMILIES if family not in ("llama4_text", "jetmoe", "llama")]
PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [9, 8], [30, 31, 32, 33]]
LETTERS = [[1, 2, 3, 4]] * 3
IDS = torch.tensor([PROMPTS[0]])


def state(model):
    """A hash of everything that an intervention could change: weights, hooks, attributes, configuration."""
    sha = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        sha.update(f"{name} {tensor.dtype} {tensor.requires_grad} {id(tensor)}".encode())
        sha.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for name, module in model.named_modules():
        hooks = [v for k, v in sorted(module.__dict__.items()) if "hooks" in k]
        plain = {k: v for k, v in module.__dict__.items() if isinstance(v, int | float | str | bool | None)}
        sha.update(f"{name} {hooks} {sorted(plain.items())} {sorted(module.__dict__)}".encode())
    sha.update(model.config.to_json_string().encode())
    return sha.hexdigest()


def routed(moe, ids=IDS):
    """Each router's output in a plain forward, and the logits."""
    outputs = {}
    handles = [
        layer.router.register_forward_hook(lambda _, __, out, n=layer.layer: outputs.__setitem__(n, out))
        for layer in moe.layers
    ]
    with torch.no_grad():
        logits = moe.model(input_ids=ids, use_cache=False).logits
    for handle in handles:
        handle.remove()
    return outputs, logits


def most_chosen(moe, n):
    """In each layer the experts most often chosen without a mask, as many as can be masked, at most n."""
    outputs, _ = routed(moe)
    experts = {}
    for layer in moe.layers:
        order = torch.bincount(outputs[layer.layer][2].flatten(), minlength=layer.n_experts).argsort(descending=True)
        chosen = []
        for e in order.tolist():
            if len(chosen) < n and fewest_left(layer, [*chosen, e]) >= layer.top_k:
                chosen.append(e)
        experts[layer.layer] = chosen
    return experts


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
