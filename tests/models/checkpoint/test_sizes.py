"""Sizes counted without weights, held against live models: parameters, gradients, FLOPs and caches as they happen."""

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
# Llama 4 runs every expert on every token; a convolution also runs over its padding.
FLOPS_DIFFER = {"llama4_text", "lfm2_moe"}


@pytest.fixture(scope="module", params=COUNTED)
def live(request):
    return request.param, random_model(request.param)


def test_every_parameter_is_counted(live):
    _, model = live
    found = size_of(model.config).parameters
    total = sum(p.numel() for p in model.parameters())
    embeddings = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    assert found.total == total
    assert found.total - found.total_non_embedding == sum(p.numel() for p in embeddings)
    assert found.active - found.active_non_embedding == sum(p.numel() for p in embeddings)


def test_active_are_those_that_one_token_moves(live):
    """Rows of experts without any gradient after one token are the idle ones."""
    _, model = live
    model.zero_grad()
    model(input_ids=torch.tensor([[5]]), use_cache=False).logits.sum().backward()
    idle = 0
    for name, parameter in model.named_parameters():
        if ".experts." in name:
            moved = 0 if parameter.grad is None else int(parameter.grad.flatten(1).any(1).sum())
            idle += (len(parameter) - moved) * parameter[0].numel()
    found = size_of(model.config)
    assert found.parameters.active == sum(p.numel() for p in model.parameters()) - idle
    assert found.routed == sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)


def test_flops_and_cache_of_a_real_forward(live):
    """torch's own counter sees each product of a forward in plain code; the cache holds what the size says."""
    family, model = live
    found = size_of(model.config)
    model.set_experts_implementation("eager")
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        cache = model(input_ids=torch.arange(TOKENS)[None], use_cache=True).past_key_values
    expected = ops.flops(
        active_products=found.active_products,
        attention_widths=found.attention_widths,
        context=TOKENS,
        causal=False,
    )
    if family not in FLOPS_DIFFER:
        assert counter.get_total_flops() == expected.inference * TOKENS
    held = [getattr(layer, part, None) for layer in cache.layers for part in ("keys", "values")]
    assert sum(x.numel() for x in held if x is not None) == ops.cached_numbers(found.cache_widths, TOKENS)


def paper_config(**changes):
    """The architecture of arXiv 2508.18672 as transformers has it: Mixtral, untied, as many key heads as heads."""
    given = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 2}
    given |= {"num_key_value_heads": 2, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 1000}
    return AutoConfig.for_model("mixtral", tie_word_embeddings=False, **given | changes)


@pytest.mark.parametrize("wide", [512, 96])
def test_closed_form_of_the_papers_architecture(wide):
    found = size_of(paper_config(intermediate_size=wide))
    shape = {"width": 256, "layers": 3, "experts": 8, "top_k": 2, "vocab": 1000, "expert_width": wide}
    assert found.parameters == ops.parameters(**shape)
    assert (found.expert_width, found.sparsity, found.shared, found.notes) == (wide, 0.75, 0, ())


def test_window_of_sliding_layers():
    found = size_of(random_model("gpt_oss").config)
    assert [window for _, window in found.attention_widths] == [16, None, 16]
    assert ops.cached_numbers(found.cache_widths, 100) == 32 * (16 + 100 + 16)


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
    ("content", "said"),
    [
        ("{", "JSON"),
        ('{"model_type": "none"}', "model_type"),
        ('{"model_type": "mixtral", "hidden_size": "x"}', "read"),
    ],
)
def test_bad_configurations(tmp_path, content, said):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=said) as raised:
        size_of(tmp_path / "config.json")
    assert "\n" not in str(raised.value)
    with pytest.raises(ModelError, match="a folder, or a hub id"):
        size_of(tmp_path / "nowhere")
