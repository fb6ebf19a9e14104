"""Sizes counted without weights against live models: parameters, gradients, FLOPs and caches."""

import json

import pytest
import torch
from tiny import FAMILIES, random_model, tiny_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from turnout import ops
from turnout.errors import ModelError
from turnout.models.checkpoint.counting import size_of

WITHOUT_FUSED_EXPERTS = ("jetmoe", "llama")
COUNTED = [family for family in FAMILIES if family not in WITHOUT_FUSED_EXPERTS]
TOKENS = 12
# Llama 4 computes every expert for every token; a convolution includes its padding.
FLOPS_DIFFER = {"llama4_text", "lfm2_moe"}


@pytest.fixture(scope="module", params=COUNTED)
def live(request):
    return request.param, random_model(request.param)


def test_every_parameter_is_counted(live):
    _, model = live
    size = size_of(model.config).parameters
    total = sum(p.numel() for p in model.parameters())
    embeddings = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    assert size.total == total
    assert size.total - size.total_non_embedding == sum(p.numel() for p in embeddings)
    assert size.active - size.active_non_embedding == sum(p.numel() for p in embeddings)


def test_active_parameters_get_a_gradient_from_one_token(live):
    """Experts without any gradient after one token are idle."""
    _, model = live
    model.zero_grad()
    model(input_ids=torch.tensor([[5]]), use_cache=False).logits.sum().backward()
    idle = 0
    for name, parameter in model.named_parameters():
        if ".experts." in name:
            with_gradient = 0 if parameter.grad is None else int(parameter.grad.flatten(1).any(1).sum())
            idle += (len(parameter) - with_gradient) * parameter[0].numel()
    size = size_of(model.config)
    assert size.parameters.active == sum(p.numel() for p in model.parameters()) - idle
    assert size.routed == sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)


def test_flops_and_cache_of_a_real_forward(live):
    """Against torch's own counter of a forward in plain code, and the numbers in its cache."""
    family, model = live
    size = size_of(model.config)
    model.set_experts_implementation("eager")
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        cache = model(input_ids=torch.arange(TOKENS)[None], use_cache=True).past_key_values
    expected = ops.flops(
        active_products=size.active_products,
        attention_widths=size.attention_widths,
        context=TOKENS,
        causal=False,
    )
    if family not in FLOPS_DIFFER:
        assert counter.get_total_flops() == expected.inference * TOKENS
    cached = [getattr(layer, part, None) for layer in cache.layers for part in ("keys", "values")]
    assert sum(x.numel() for x in cached if x is not None) == ops.cached_numbers(size.cache_widths, TOKENS)


def paper_config(**changes):
    """The architecture of arXiv 2508.18672 in transformers: Mixtral, untied, as many key heads as heads."""
    given = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 2}
    given |= {"num_key_value_heads": 2, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 1000}
    return AutoConfig.for_model("mixtral", tie_word_embeddings=False, **given | changes)


@pytest.mark.parametrize("wide", [512, 96])
def test_closed_form_of_the_papers_architecture(wide):
    size = size_of(paper_config(intermediate_size=wide))
    shape = {"width": 256, "layers": 3, "experts": 8, "top_k": 2, "vocab": 1000, "expert_width": wide}
    assert size.parameters == ops.parameters(**shape)
    assert (size.expert_width, size.sparsity, size.shared, size.notes) == (wide, 0.75, 0, ())


def test_window_of_sliding_layers():
    size = size_of(random_model("gpt_oss").config)
    assert [window for _, window in size.attention_widths] == [16, None, 16]
    assert ops.cached_numbers(size.cache_widths, 100) == 32 * (16 + 100 + 16)


def test_folder_file_and_configuration_agree(tmp_path):
    folder = tiny_model("qwen2_moe", tmp_path / "qwen")
    size = size_of(folder)
    assert (size.name, size.layers, size.moe_layers, size.shared) == ("qwen", 3, 2, 1)
    assert size == size_of(folder / "config.json")
    stored = json.loads((folder / "config.json").read_text())
    stored["quantization_config"] = {"quant_method": "mxfp4"}
    (folder / "config.json").write_text(json.dumps(stored))
    assert size == size_of(folder)


@pytest.mark.parametrize("family", WITHOUT_FUSED_EXPERTS)
def test_no_fused_experts(family):
    with pytest.raises(ModelError, match="without fused experts"):
        size_of(random_model(family).config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON"),
        ('{"model_type": "none"}', "model_type"),
        ('{"model_type": "mixtral", "hidden_size": "x"}', "read"),
    ],
)
def test_bad_configurations(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message) as raised:
        size_of(tmp_path / "config.json")
    assert "\n" not in str(raised.value)
    with pytest.raises(ModelError, match="a folder, or a hub id"):
        size_of(tmp_path / "nowhere")
