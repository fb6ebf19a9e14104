"""The tail against the whole model in every family; gradients reach the routers, and nothing else changes."""

import pytest
import torch
from tiny import random_model, tiny_tokenizer

from turnout.errors import ModelError
from turnout.models.change.adapter import RouterWeights
from turnout.models.forward.capture import capture
from turnout.models.forward.prefix import decoder_layers
from turnout.models.forward.reading import TOKENS
from turnout.models.forward.tail import Tail
from turnout.models.wrap.anatomy import read

FAMILIES = ("olmoe", "qwen2_moe", "deepseek_v2", "deepseek_v3", "gpt_oss", "ernie4_5_moe", "granitemoe", "lfm2_moe")
LETTERS = [65, 66, 67, 68]
GENERATOR = torch.Generator().manual_seed(0)
PROMPTS = [torch.randint(0, 250, (n,), generator=GENERATOR).tolist() for n in (5, 9, 2, 17)]


def moe_of(family="olmoe", **overrides):
    return read(random_model(family, **overrides), tiny_tokenizer(), family)


def refuse(*_):
    raise AssertionError("a layer below the tail was computed")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tail_is_the_model(family):
    moe = moe_of(family)
    layers = moe.layers[-2:] if len(moe.layers) == 3 else moe.layers[-1:]
    tail, digest = Tail(moe, layers, LETTERS), moe.digest()
    trainable = [p.requires_grad for p in moe.model.parameters()]
    with tail.opened():
        tail.check(PROMPTS)
        assert tail.cut
        whole, states = tail.run_model(PROMPTS)
        below = decoder_layers(moe, layers[0].layer)[: layers[0].layer]
        handles = [m.register_forward_pre_hook(refuse) for layer in below for m in layer.children()]
        weights = RouterWeights.of(layers)
        with weights.in_use():
            resumed = tail.resume(PROMPTS, states)
        for handle in handles:
            handle.remove()
        assert all(torch.equal(a, b) for a, b in zip(tail.run_below(PROMPTS), states, strict=True))
    torch.testing.assert_close(resumed.logits_BU, whole.logits_BU, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(resumed.routing_BF, whole.routing_BF, rtol=1e-5, atol=1e-6)
    assert [tuple(t.shape) for t in states] == [(len(p), 32) for p in PROMPTS]
    trace = capture(moe, PROMPTS, letters=[LETTERS] * 4)
    numbers = [layer.layer for layer in layers]
    scores = torch.cat([t.scores_BE for t in trace.layers if t.layer in numbers], 1)
    torch.testing.assert_close(whole.routing_BF, scores, rtol=1e-5, atol=1e-6)
    logprobs = torch.tensor(trace.choice_logprobs)
    differences = logprobs - logprobs[:, :1]
    torch.testing.assert_close(whole.logits_BU - whole.logits_BU[:, :1], differences, rtol=1e-4, atol=1e-4)
    (resumed.logits_BU.logsumexp(1).sum() + resumed.routing_BF.square().sum()).backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in weights.tensors.values())
    assert all(p.grad is None for p in moe.model.parameters())
    assert [p.requires_grad for p in moe.model.parameters()] == trainable
    assert not any("correction" in name for name in weights.tensors)
    assert moe.digest() == digest
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in moe.model.modules())
    assert all("forward" not in m.__dict__ and "weight" not in m.__dict__ for m in moe.model.modules())


@pytest.mark.parametrize("tokens", TOKENS)
def test_same_figures_for_any_batch_and_padding_side(tokens):
    moe = moe_of()
    readings = []
    for padding in ("right", "left"):
        tail = Tail(moe, moe.layers[1:], LETTERS, tokens, padding)
        with tail.opened(), torch.no_grad():
            readings.append(tail.resume(PROMPTS, tail.run_model(PROMPTS)[1]))
            alone = [tail.resume([p], tail.run_model([p])[1]) for p in PROMPTS]
    for name in ("logits_BU", "routing_BF"):
        one = torch.cat([getattr(reading, name) for reading in alone])
        for reading in readings:
            torch.testing.assert_close(getattr(reading, name), one, rtol=1e-5, atol=1e-6)


def test_tokens_whose_routing_is_used():
    moe = moe_of()
    every = {}
    handle = moe.layers[-1].router.register_forward_hook(lambda _, __, out: every.update(p=out[0].softmax(-1)))
    with torch.no_grad():
        moe.model(input_ids=torch.tensor([PROMPTS[1]]))
    handle.remove()
    expected = {"last": every["p"][-1], "first": every["p"][0], "last-three": every["p"][-3:].mean(0)}
    for tokens, p in expected.items():
        tail = Tail(moe, moe.layers[-1:], LETTERS, tokens)
        with tail.opened():
            reading, _ = tail.run_model(PROMPTS)
        torch.testing.assert_close(reading.routing_BF[1], p, rtol=1e-5, atol=1e-6)
        assert reading.routing_BF.sum(1).tolist() == pytest.approx([1.0] * 4)


def test_the_whole_vocabulary_and_half_precision():
    moe = read(random_model("olmoe").to(torch.bfloat16), tiny_tokenizer())
    tail = Tail(moe, moe.layers[-1:], None)
    with tail.opened():
        reading, states = tail.run_model(PROMPTS)
        weights = RouterWeights.of(tail.layers)
        with weights.in_use():
            tail.resume(PROMPTS, states).routing_BF.square().sum().backward()
    assert reading.logits_BU.shape == (4, moe.model.config.vocab_size)
    assert reading.logits_BU.dtype == reading.routing_BF.dtype == torch.float32
    assert states[0].dtype == torch.bfloat16
    assert all(t.dtype == t.grad.dtype == torch.float32 for t in weights.tensors.values())
    (name,) = weights.tensors
    own = dict(moe.model.named_parameters())[name]
    with torch.no_grad():
        weights.tensors[name] += 2**-12  # below the rounding of most of them in bfloat16
    weights.write()
    assert torch.equal(own, weights.tensors[name].to(torch.bfloat16))


def test_a_model_that_passes_more_than_hidden_states_is_run_whole():
    moe = moe_of()
    first = moe.model.model.layers[0]
    forward = first.forward
    first.forward = lambda *a, **k: (forward(*a, **k), {"more": 1})
    moe.model.model.layers[1].forward = (lambda own: lambda x, *a, **k: own(x[0], *a, **k))(
        moe.model.model.layers[1].forward
    )
    tail = Tail(moe, moe.layers[1:], LETTERS)
    with tail.opened():
        tail.check(PROMPTS)
        assert not tail.cut
        whole, states = tail.run_model(PROMPTS)
        assert states == []
        with torch.no_grad():
            assert torch.equal(tail.resume(PROMPTS, states).logits_BU, whole.logits_BU)


def test_experts_of_the_last_layer_run_for_last_tokens_only():
    moe = moe_of()
    seen = []
    last = moe.layers[-1].experts
    handle = last.act_fn.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[0]))
    tail = Tail(moe, moe.layers[1:], LETTERS)
    with tail.opened():
        tail.run_model(PROMPTS)
    handle.remove()
    assert sum(seen) == len(PROMPTS) * moe.layers[-1].top_k


def test_refusals():
    moe = moe_of()
    moe.model.get_output_embeddings = lambda: None
    with pytest.raises(ModelError, match="a language-model head to score answers"):
        Tail(moe, moe.layers[-1:], LETTERS)
