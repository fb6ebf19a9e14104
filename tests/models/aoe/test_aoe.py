"""Autonomy of Experts against a plain loop and against OLMoE of the same shape; saving, loading, generating."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny import random_model
from torch.nn import functional

import turnout
from turnout.models.aoe import AoeConfig, AoeForCausalLM
from turnout.models.aoe.configuration import matching_rank
from turnout.models.aoe.modeling import AoeSparseMoeBlock
from turnout.models.wrap.anatomy import read

AOE = "turnout_aoe"
IDS = torch.randint(0, 256, (3, 17), generator=torch.Generator().manual_seed(1))


def block_of(normalize=False, dtype=torch.float64, **shape):
    """One MoE layer with H 12, I 10, E 6, K 3 and all weights drawn from N(0, 1/4)."""
    shape = {"hidden_size": 12, "intermediate_size": 10, "num_experts": 6, "num_experts_per_tok": 3} | shape
    block = AoeSparseMoeBlock(AoeConfig(norm_topk_prob=normalize, **shape)).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    return block


def plain(block, x_TH, normalize):
    """Token by token and expert by expert, by the papers' formulas."""
    w_down, w_up = block.gate.weight.mT, block.experts.gate_proj.mT
    w_p, w_o = block.experts.up_proj.mT, block.experts.down_proj.mT
    outputs = []
    for x in x_TH:
        norms = torch.stack([(x @ w_down[j]).square().sum().sqrt() for j in range(len(w_down))])
        chosen = sorted(range(len(norms)), key=lambda j, n=norms.tolist(): -n[j])[: block.gate.top_k]
        weights = norms.exp() / (norms[chosen].exp().sum() if normalize else norms.exp().sum())
        y = torch.zeros_like(x)
        for j in chosen:
            gate_matrix = w_down[j] @ w_up[j]
            y = y + weights[j] * ((functional.silu(x @ gate_matrix) * (x @ w_p[j])) @ w_o[j])
        outputs.append(y)
    return torch.stack(outputs)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_layer_equals_the_plain_loop_forward_and_backward(normalize):
    block = block_of(normalize)
    x = torch.randn(2, 9, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    expected = plain(block, x.view(-1, 12), normalize).view_as(x)
    out = block(x)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(expected.square().sum(), [x, *block.parameters()])
    received = torch.autograd.grad(out.square().sum(), [x, *block.parameters()])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    torch.testing.assert_close(received, gradients, rtol=1e-10, atol=1e-10)


def test_the_router_returns_norms_their_softmax_and_the_largest():
    block = block_of()
    x = torch.randn(20, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    norms, weights, chosen = block.gate(x)
    scores = norms.softmax(-1)
    assert torch.equal(weights, scores.topk(3).values)
    assert torch.equal(chosen, norms.topk(3).indices)
    assert norms.dtype == torch.float64
    assert block_of(dtype=torch.bfloat16).gate(x.bfloat16())[0].dtype == torch.float32


def test_the_first_product_is_computed_once(monkeypatch):
    """Every expert's x W_down is in one product, and there is no other product with W_down."""
    from turnout.models.aoe import modeling

    shapes = []

    def recorded(rows, weight):
        shapes.append((tuple(rows.shape), tuple(weight.shape)))
        return functional.linear(rows, weight)

    monkeypatch.setattr(modeling, "linear", recorded)
    block_of()(torch.randn(4, 12, dtype=torch.float64))
    rank = matching_rank(12, 10)
    assert shapes[0] == ((4, 12), (6 * rank, 12))
    assert [weight for _, weight in shapes].count((6 * rank, 12)) == 1
    assert sum(rows[0] for rows, weight in shapes if weight == (10, rank)) == 4 * 3  # W_up multiplies the chosen only


def test_parameters_are_olmoes_less_the_routers_up_to_rounding():
    for width, expert_width in ((128, 128), (96, 40), (32, 16)):
        shape = {"hidden_size": width, "intermediate_size": expert_width, "num_attention_heads": 4}
        ours, theirs = (sum(p.numel() for p in random_model(family, **shape).parameters()) for family in (AOE, "olmoe"))
        rounding = matching_rank(width, expert_width) * (width + expert_width) - width * expert_width
        assert abs(rounding) <= (width + expert_width) / 2
        assert ours - theirs == 3 * 8 * (rounding - width)  # 3 layers, 8 experts
    assert matching_rank(1536, 768) == 512  # of arXiv 2512.23447


def test_padding_and_other_samples_change_nothing():
    model = random_model(AOE).double()
    alone = model(IDS[:1, :9]).logits
    ids, attend = torch.zeros(2, 17, dtype=torch.int64), torch.zeros(2, 17, dtype=torch.int64)
    ids[0, 8:], attend[0, 8:] = IDS[0, :9], 1
    ids[1], attend[1] = IDS[1], 1
    position = (attend.cumsum(-1) - 1).clamp_min(0)
    together = model(ids, attention_mask=attend, position_ids=position).logits
    torch.testing.assert_close(together[:1, 8:], alone, rtol=1e-10, atol=1e-10)


def test_the_auxiliary_loss_is_of_the_softmax_over_all_norms():
    model = random_model(AOE, router_aux_loss_coef=0.5)
    output = model(IDS, labels=IDS, output_router_logits=True)
    scores = torch.cat([norms.softmax(-1) for norms in output.router_logits])
    share = torch.zeros(8).scatter_add_(0, scores.topk(2).indices.flatten(), torch.ones(scores.numel() // 4))
    torch.testing.assert_close(output.aux_loss, 8 * (share / len(scores) * scores.mean(0)).sum())
    torch.testing.assert_close(output.loss, model(IDS, labels=IDS).loss + 0.5 * output.aux_loss)


def test_gradient_checkpointing_changes_nothing():
    gradients = []
    for checkpointing in (False, True):
        model = random_model(AOE).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(IDS, labels=IDS).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0])
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0].values())


def test_bfloat16_weights_and_autocast_stay_near_float32():
    model = random_model(AOE)
    exact = model(IDS).logits
    with torch.autocast("cpu", torch.bfloat16):
        near = model(IDS, labels=IDS)
        near.loss.backward()
    low = random_model(AOE).bfloat16()(IDS).logits
    spread = exact.std()
    assert (near.logits - exact).abs().median() < 0.05 * spread
    assert (low - exact).abs().median() < 0.05 * spread
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_generation_with_and_without_cache_agrees():
    model = random_model(AOE)
    tokens = [model.generate(IDS, max_new_tokens=5, do_sample=False, use_cache=cache) for cache in (True, False)]
    assert torch.equal(*tokens)
    assert tokens[0].shape == (3, 22)


@pytest.mark.parametrize("tied", [False, True])
def test_saved_and_loaded_byte_for_byte(tied, tmp_path):
    model = random_model(AOE, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "one")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
    }
    assert ("lm_head.weight" in load_file(tmp_path / "one/model.safetensors")) is not tied
    moe = turnout.load(tmp_path / "one")
    moe.model.save_pretrained(tmp_path / "two")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert moe.digest() == read(model).digest()
    assert torch.equal(moe.model(IDS).logits, model(IDS).logits)
    if tied:
        assert moe.model.lm_head.weight is moe.model.model.embed_tokens.weight


def test_a_process_that_never_imported_it_loads_it(checkpoint):
    code = f"import turnout; moe = turnout.load({str(checkpoint(AOE))!r}); print(moe.digest())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == read(random_model(AOE)).digest()


def test_transformers_loads_it_once_it_is_imported(checkpoint):
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    assert isinstance(AutoConfig.from_pretrained(checkpoint(AOE)), AoeConfig)
    assert isinstance(AutoModelForCausalLM.from_pretrained(checkpoint(AOE)), AoeForCausalLM)
    assert AutoModel.from_pretrained(checkpoint(AOE))(IDS).last_hidden_state.shape == (3, 17, 32)


def test_offloaded_to_disk(checkpoint):
    whole = turnout.load(checkpoint(AOE))
    device_map = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    spread = turnout.load(checkpoint(AOE), device_map=device_map | {f"model.layers.{i}": "disk" for i in range(3)})
    assert spread.digest() == whole.digest()
    assert torch.equal(spread.model(IDS).logits, whole.model(IDS).logits)
