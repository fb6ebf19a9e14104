"""Dense checkpoints and the MoEs built from them: nothing but the feed-forward networks may change."""

import pytest
import torch
from tiny import DENSE, tiny_model

from turnout.errors import ModelError
from turnout.models.change.dense import COUNTERPARTS, check_equal, fill, fill_router, load_dense, new_moe, save, visit
from turnout.models.wrap.load import load

WINDOWS = torch.arange(2 * 40).view(2, 40)
GROUPS = torch.arange(48).view(4, 12)


def split(dense, top_k, scale):
    """A MoE of four experts with twelve neurons each and random routers."""
    moe = new_moe(dense, 4, top_k, 12)
    for number, (layer, network) in enumerate(zip(moe.layers, dense.networks, strict=True)):
        router = torch.randn(4, 32, generator=torch.Generator().manual_seed(number))
        down = network.down_HI[:, GROUPS].transpose(0, 1) * scale
        fill(layer, router, network.gate_IH[GROUPS], network.up_IH[GROUPS], down)
    return moe


@pytest.fixture(scope="module")
def llama(checkpoint):
    return load_dense(checkpoint("llama"))


@pytest.mark.parametrize("family", [*COUNTERPARTS])
def test_all_experts_are_the_dense_model(family, tmp_path):
    dense = load_dense(tiny_model(family, tmp_path / "dense", tie_word_embeddings=family == "llama"))
    moe = split(dense, 2, scale=2.0)
    assert check_equal(dense, moe, range(60), weight=0.5) < 1e-5
    for layer in moe.layers:
        layer.router.top_k = 4
        fill_router(layer, torch.zeros(4, 32))
    with torch.no_grad():  # weights of 1/4 now, on matrices scaled by 2: scale them to 4
        for layer in moe.layers:
            layer.experts.down_proj.mul_(2)
        received, expected = (m.model(input_ids=WINDOWS).logits for m in (moe, dense))
    torch.testing.assert_close(received, expected, atol=1e-5, rtol=1e-5)


def test_routers_choose(llama):
    moe = split(llama, 2, scale=2.0)
    with torch.no_grad():
        received, expected = (m.model(input_ids=WINDOWS).logits for m in (moe, llama))
    assert (received - expected).abs().max() > 0.01
    assert [(layer.n_experts, layer.top_k) for layer in moe.layers] == [(4, 2)] * 3


def test_a_lost_weight_is_refused(llama):
    moe = split(llama, 2, scale=2.0)
    with torch.no_grad():
        moe.layers[1].experts.down_proj[3] = 0
    with pytest.raises(ModelError, match="equal to the dense model's"):
        check_equal(llama, moe, range(60), weight=0.5)


def test_saved_as_transformers_does(llama, tmp_path):
    moe = split(llama, 2, scale=2.0)
    save(moe, tmp_path)
    again = load(tmp_path)
    with torch.no_grad():
        assert torch.equal(*(m.model(input_ids=WINDOWS).logits for m in (moe, again)))
    assert again.tokenizer("ab")["input_ids"] == llama.tokenizer("ab")["input_ids"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_visit_passes_the_input_of_each_network(llama):
    inputs = {}
    visit(llama, WINDOWS, inputs.__setitem__)
    with torch.no_grad():
        states = llama.model.model(input_ids=WINDOWS, output_hidden_states=True).hidden_states
        layer = llama.model.model.layers[0]
        x = layer.post_attention_layernorm(
            states[0]
            + layer.self_attn(
                layer.input_layernorm(states[0]),
                position_embeddings=llama.model.model.rotary_emb(states[0], torch.arange(40)[None]),
                attention_mask=None,
            )[0]
        )
    assert [*inputs] == [0, 1, 2]
    torch.testing.assert_close(inputs[0], x.reshape(-1, 32), atol=1e-5, rtol=1e-5)
    network = llama.networks[0]
    with torch.no_grad():
        expected = network.module(inputs[0])
    torch.testing.assert_close(network.neurons(inputs[0]) @ network.down_HI.T, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("mixtral", {}, "mixtral, a MoE"),
        ("qwen2", {}, "one of the families llama, mistral, qwen3, olmo2, granite"),
        ("llama", {"mlp_bias": True}, "without biases"),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "sliding windows"),
    ],
)
def test_refusals(family, changes, message, tmp_path):
    with pytest.raises(ModelError, match=message):
        load_dense(tiny_model(family, tmp_path, **changes))


def test_attention_bias_is_refused_for_mixtral(tmp_path):
    dense = load_dense(tiny_model("llama", tmp_path, attention_bias=True))
    with pytest.raises(ModelError, match=r"weights of mixtral outside its experts, got .*bias"):
        new_moe(dense, 4, 2, 12)


def test_no_tokenizer(tmp_path):
    folder = tiny_model("llama", tmp_path)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="with its tokenizer"):
        load_dense(folder)


def test_every_dense_family_of_the_table_is_tried():
    assert set(COUNTERPARTS) <= {"llama", *DENSE}
