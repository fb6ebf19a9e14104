"""Capture against a plain loop over single prompts, whatever the batching, padding, experts and dtype; refusals."""

import pytest
import torch
from tiny import FAMILIES, random_model

from turnout.errors import ModelError
from turnout.models.forward.capture import capture
from turnout.models.wrap.anatomy import read

MOES = [family for family in FAMILIES if family not in ("llama4_text", "jetmoe", "llama")]
LENGTHS = [9, 1, 30, 14, 2]
LETTERS = [[1, 2, 3, 4], [5, 6], [7], [8, 9, 10], [11]]


def prompts_of(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (n,), generator=generator).tolist() for n in lengths]


PROMPTS = prompts_of(LENGTHS)


def one_by_one(moe, prompts, letters):
    """The figures of a plain loop: one prompt at a time through the whole model, every token kept, sums at the end."""
    rows = []
    for prompt, ids in zip(prompts, letters, strict=True):
        outputs = {layer.layer: [] for layer in moe.layers}
        handles = [
            layer.router.register_forward_hook(
                lambda _, __, out, kept=outputs[layer.layer]: kept.append([o.clone() for o in out])
            )
            for layer in moe.layers
        ]
        with torch.no_grad():
            logits = moe.model(input_ids=torch.tensor([prompt]), use_cache=False).logits
        for handle in handles:
            handle.remove()
        sample = {"logprobs": logits[0, -1].float().log_softmax(-1)[ids].tolist()}
        for layer in moe.layers:
            ((z, w, i),) = outputs[layer.layer]
            if layer.scoring == "softmax":
                p = torch.softmax(z.float(), -1)
            else:
                p = torch.sigmoid(z.float()) / torch.sigmoid(z.float()).sum(-1, keepdim=True)
            chosen = torch.zeros_like(p, dtype=torch.int64)
            applied = torch.zeros_like(p)
            for t in range(len(prompt)):
                for e, weight in zip(i[t].tolist(), w[t].float().tolist(), strict=True):
                    chosen[t, e] += 1
                    applied[t, e] += weight
            sample[layer.layer] = (p[-1], w[-1].float(), i, p.sum(0), applied.sum(0), chosen.sum(0))
        rows.append(sample)
    return rows


def check(moe, batch, expected, prompts, rtol=1e-4, atol=1e-5):
    assert batch.lengths_B == [len(p) for p in prompts]
    assert [t.layer for t in batch.layers] == [layer.layer for layer in moe.layers]
    for trace in batch.layers:
        stacked = [torch.stack([row[trace.layer][n] for row in expected]) for n in (0, 1, 3, 4, 5)]
        ours = (trace.scores_BE, trace.weights_BK, trace.sum_scores_BE, trace.sum_weights_BE)
        for mine, theirs in zip(ours, stacked[:4], strict=True):
            assert mine.dtype == torch.float32
            torch.testing.assert_close(mine, theirs, rtol=rtol, atol=atol)
        assert torch.equal(trace.counts_BE, stacked[4])
        assert torch.equal(trace.chosen_TK.long(), torch.cat([row[trace.layer][2] for row in expected]))
        assert trace.chosen_TK.dtype == torch.uint8
    if batch.choice_logprobs is not None:
        for mine, row in zip(batch.choice_logprobs, expected, strict=True):
            assert mine == pytest.approx(row["logprobs"], abs=1e-4)


@pytest.mark.parametrize("family", MOES)
def test_equals_a_plain_loop_whatever_the_batching(family):
    moe = read(random_model(family))
    expected = one_by_one(moe, PROMPTS, LETTERS)
    check(moe, capture(moe, PROMPTS, letters=LETTERS), expected, PROMPTS)
    check(moe, capture(moe, PROMPTS), expected, PROMPTS)
    check(moe, capture(moe, PROMPTS, letters=LETTERS, padding="left"), expected, PROMPTS)
    for n in range(len(PROMPTS)):
        alone = capture(moe, PROMPTS[n : n + 1], letters=LETTERS[n : n + 1])
        check(moe, alone, expected[n : n + 1], PROMPTS[n : n + 1])


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v2", "gpt_oss"])
@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm", "turnout"])
def test_every_experts_implementation_gives_the_same(family, implementation):
    moe = read(random_model(family))
    expected = one_by_one(moe, PROMPTS, LETTERS)
    moe.model.set_experts_implementation(implementation)
    for padding in ("right", "left"):
        check(moe, capture(moe, PROMPTS, letters=LETTERS, padding=padding, experts=None), expected, PROMPTS)
    assert moe.model.config._experts_implementation == implementation


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3"])
def test_the_same_twice_with_deterministic_algorithms(family):
    moe = read(random_model(family))
    free = capture(moe, PROMPTS, letters=LETTERS)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = capture(moe, PROMPTS, letters=LETTERS), capture(moe, PROMPTS, letters=LETTERS)
    finally:
        torch.use_deterministic_algorithms(False)
    for a, b, c in zip(free.layers, first.layers, second.layers, strict=True):
        for name in ("chosen_TK", "scores_BE", "weights_BK", "sum_scores_BE", "sum_weights_BE", "counts_BE"):
            assert torch.equal(getattr(a, name), getattr(b, name))
            assert torch.equal(getattr(b, name), getattr(c, name))
    assert free.choice_logprobs == first.choice_logprobs == second.choice_logprobs


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3"])
def test_bfloat16_counts_every_token_and_stays_near_float32(family):
    exact = capture(read(random_model(family)), PROMPTS)
    low = capture(read(random_model(family).bfloat16()), PROMPTS, letters=LETTERS)
    assert low.choice_logprobs is not None
    for trace, near in zip(low.layers, exact.layers, strict=True):
        assert trace.counts_BE.sum(1).tolist() == [n * 2 for n in LENGTHS]
        assert (trace.scores_BE - near.scores_BE).abs().mean() < 0.02


def test_many_experts_need_two_bytes():
    moe = read(random_model("olmoe", num_experts=300, num_hidden_layers=1))
    trace = capture(moe, PROMPTS[:2]).layers[0]
    assert trace.chosen_TK.dtype == torch.uint16
    assert trace.counts_BE.shape == (2, 300)


@pytest.mark.parametrize("letters", [None, LETTERS])
@pytest.mark.parametrize("family", ["olmoe", "lfm2_moe"])
def test_the_model_is_restored(family, letters):
    model = random_model(family)
    moe = read(model)
    model.train()
    model.model.layers[0].eval()
    modes = [m.training for m in model.modules()]
    before = {n: t.clone() for n, t in model.state_dict().items()}
    implementation = model.config._experts_implementation
    capture(moe, PROMPTS, letters=letters)
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model.config._experts_implementation == implementation
    model(torch.tensor([PROMPTS[0]])).logits.mean().backward()
    assert moe.layers[0].router.weight.grad is not None


@pytest.mark.parametrize("rope", ["default", "dynamic"])
def test_captured_figures_and_the_model_can_be_trained_with(rope):
    parameters = {"rope_type": rope, "rope_theta": 10000.0} | ({"factor": 4.0} if rope == "dynamic" else {})
    model = random_model("olmoe", rope_parameters=parameters, max_position_embeddings=8)
    moe = read(model)
    target = capture(moe, PROMPTS, letters=LETTERS).layers[-1].scores_BE  # prompts outgrow the 8 positions
    assert not target.is_inference()
    target += 1
    logits = []
    moe.layers[-1].router.register_forward_hook(lambda _, __, out: logits.append(out[0]))
    model(torch.tensor([PROMPTS[2]]))
    (moe.layers[-1].scores(logits[0]) * target[0]).sum().backward()
    assert moe.layers[0].router.weight.grad is not None


def test_no_dropout_while_capturing():
    model = random_model("olmoe", attention_dropout=0.5)
    moe = read(model)
    model.train()
    assert torch.equal(capture(moe, PROMPTS).layers[2].scores_BE, capture(moe, PROMPTS).layers[2].scores_BE)


def test_without_letters_neither_the_last_experts_nor_the_head_run():
    moe = read(random_model("olmoe"))
    ran = []
    for name, module in (
        ("head", moe.model.lm_head),
        ("first", moe.layers[0].experts),
        ("last", moe.layers[-1].experts),
    ):
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    assert capture(moe, PROMPTS).choice_logprobs is None
    assert ran == ["first"]
    capture(moe, PROMPTS, letters=LETTERS)
    assert ran == ["first", "first", "last", "head"]


def test_the_head_computes_the_last_positions_only():
    moe = read(random_model("granitemoe", logits_scaling=3.0))
    shapes = []
    moe.model.lm_head.register_forward_hook(lambda _, args, out: shapes.append(tuple(out.shape[:2])))
    capture(moe, PROMPTS, letters=LETTERS)
    assert shapes == [(len(PROMPTS), 1)]


def test_a_base_model_has_routers_and_no_head():
    moe = read(random_model("olmoe").model)
    assert len(capture(moe, PROMPTS).layers) == 3
    with pytest.raises(ModelError, match="a language-model head"):
        capture(moe, PROMPTS, letters=LETTERS)


def test_empty_prompts_are_refused():
    moe = read(random_model("olmoe"))
    for prompts in ([], [[1], []]):
        with pytest.raises(ValueError, match="no empty ones"):
            capture(moe, prompts)


@pytest.mark.parametrize(("family", "bias"), [("olmoe", False), ("olmoe", True), ("granitemoe", False)])
def test_letters_are_scored_in_float32_whatever_the_dtype_of_the_head(family, bias, monkeypatch):
    monkeypatch.setattr("turnout.models.forward.answers.VOCABULARY_BLOCK", 100)  # smaller than the vocabulary
    model = random_model(family).bfloat16()
    head, inputs = model.lm_head, []
    if bias:
        head.bias = torch.nn.Parameter(torch.randn(len(head.weight), dtype=torch.bfloat16))
    handle = head.register_forward_pre_hook(lambda _, args: inputs.append(args[0].float()))
    logprobs = capture(read(model), PROMPTS, letters=LETTERS).choice_logprobs
    handle.remove()
    last_BH = inputs[-1][torch.arange(len(PROMPTS)), torch.tensor(LENGTHS) - 1]
    logits_BV = torch.nn.functional.linear(last_BH, head.weight.float(), head.bias.float() if bias else None)
    logits_BV = logits_BV / getattr(model.config, "logits_scaling", 1.0)
    for row, ids, received in zip(logits_BV.log_softmax(-1), LETTERS, logprobs, strict=True):
        torch.testing.assert_close(torch.tensor(received), row[list(ids)])
    assert (logits_BV - logits_BV.bfloat16().float()).abs().max() > 1e-3  # bfloat16 would have rounded them
