"""Float8 and MXFP4 checkpoints read as the floats that they mean, by every reader; other methods refused by name."""

import shutil

import pytest
import torch
from models.checkpoint.coded import edit_config, store_in_float8, store_in_mxfp4
from safetensors.torch import load_file, save_file
from tiny import tiny_model
from transformers import AutoModelForCausalLM

from turnout.errors import ModelError
from turnout.models.checkpoint.stored import read_stored
from turnout.models.wrap.load import load, load_causal

BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}

# what is stored: (kind, block, name of the scales, what config.json states)
STORED = {
    "blocks, stated": ("block", (16, 16), "weight_scale_inv", {"quantization_config": BLOCKS}),
    "blocks, the last a part": (
        "block",
        (12, 20),
        "weight_scale_inv",
        {"quantization_config": BLOCKS | {"weight_block_size": [12, 20]}},
    ),
    "blocks of 128, not stated": ("block", (128, 128), "weight_scale_inv", {}),
    "blocks, not stated": ("block", (16, 8), "scale", {}),
    "rows": ("row", None, "weight_scale", {}),
    "tensor": ("tensor", None, "weight_scale", {}),
    "tensor, of a method unknown to transformers": (
        "tensor",
        None,
        "weight_scale",
        {"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}},
    ),
}


@pytest.fixture
def folders(checkpoint, tmp_path):
    """`folders(family, store)` is a quantized copy of a checkpoint, and one with the floats that it means."""

    def make(family, store, **overrides):
        coded = tiny_model(family, tmp_path / "coded", **overrides)
        plain = shutil.copytree(coded, tmp_path / "plain")
        save_file(store(coded), plain / "model.safetensors", metadata={"format": "pt"})
        return coded, plain

    return make


def assert_same(coded, plain):
    moe = load(coded)
    assert moe.digest() == load(plain).digest()
    assert load_causal(coded)[0].state_dict().keys() == moe.model.state_dict().keys()
    stored, floats = read_stored(coded).layers, read_stored(plain).layers
    for layer, other in zip(stored, floats, strict=True):
        assert torch.equal(layer.router(), other.router())
        for gate, expected in zip(layer.gates(), other.gates(), strict=True):
            assert torch.equal(gate, expected)
    return moe


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3"])
@pytest.mark.parametrize("stored", STORED)
def test_float8_is_read_as_what_it_means(folders, family, stored):
    kind, block, name, config = STORED[stored]
    coded, plain = folders(family, lambda folder: store_in_float8(folder, kind, block, name, config))
    moe = assert_same(coded, plain)
    assert moe.notes == ("weights stored in F8_E4M3 are dequantized",)
    assert moe.describe()["notes"] == list(moe.notes)
    assert max(float(p.detach().abs().max()) for p in moe.model.parameters()) < 3


def test_blocks_as_transformers_reads_them(folders):
    """DeepSeek's own format, with blocks that divide the matrices, which transformers dequantizes as well."""
    coded, _ = folders("deepseek_v3", lambda folder: store_in_float8(folder, *STORED["blocks, stated"]))
    expected = AutoModelForCausalLM.from_pretrained(coded).state_dict()
    found = load(coded).model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("config", [{}, {"quantization_config": {"quant_method": "mxfp4"}}], ids=["unstated", "stated"])
def test_mxfp4_is_read_as_what_it_means(folders, config, dtype):
    coded, plain = folders(
        "gpt_oss", lambda folder: store_in_mxfp4(folder, config), hidden_size=64, intermediate_size=32
    )
    moe = assert_same(coded, plain)
    assert moe.notes == ("weights stored in MXFP4 are dequantized",)
    found = load(coded, dtype).model
    assert found.dtype == dtype
    if config:
        expected = AutoModelForCausalLM.from_pretrained(coded, dtype=dtype).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())


def test_scales_of_activations_and_caches_are_left_out(folders):
    def store(folder):
        meant = store_in_float8(folder, "tensor")
        tensors = load_file(folder / "model.safetensors")
        extra = {name.removesuffix("weight_scale") + "input_scale" for name in tensors if name.endswith("weight_scale")}
        tensors |= dict.fromkeys([*extra, "model.layers.0.self_attn.k_proj.k_scale"], torch.ones(()))
        save_file({name: t.clone() for name, t in tensors.items()}, folder / "model.safetensors")
        return meant

    assert_same(*folders("olmoe", store))


def test_generation_settings_and_tokenizer_are_the_checkpoints(folders):
    coded, _ = folders("olmoe", lambda folder: store_in_float8(folder, "row"))
    (coded / "generation_config.json").write_text('{"eos_token_id": [258, 7]}')
    model, tokenizer, name, _ = load_causal(coded)
    assert model.generation_config.eos_token_id == [258, 7]
    assert tokenizer is not None
    assert name == "coded"
    assert not model.training


def with_tensors(**tensors):
    def change(folder):
        file = folder / "model.safetensors"
        save_file(load_file(file) | {name.replace("__", "."): t for name, t in tensors.items()}, file)

    return change


def codes_alone(folder):
    file = folder / "model.safetensors"
    save_file({n: t.to(torch.float8_e4m3fn) if "experts" in n else t for n, t in load_file(file).items()}, file)


def integers(folder):
    file = folder / "model.safetensors"
    save_file({n: t.to(torch.int8) if "experts" in n else t for n, t in load_file(file).items()}, file)


def misfit(folder):
    store_in_float8(folder, "block", (11, 7), "weight_scale_inv")


def unknown(folder):
    edit_config(folder, quantization_config={"quant_method": "homemade"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (codes_alone, r"F8_E4M3 codes without scales in model\.layers\.0\.mlp\.experts\.0\.down_proj\.weight"),
        (
            integers,
            r"weights quantized with an unnamed method \(model\.layers\.0\.mlp\.experts\.0\.down_proj",
        ),
        (misfit, r"expected scales of blocks.*got F32\[\d, \d\] for model"),
        (unknown, "weights quantized with homemade"),
        (with_tensors(model__x__SCB=torch.ones(3)), r"weights quantized with bitsandbytes \(8 bit\) \(model\.x\.SCB\)"),
        (with_tensors(model__x__qweight=torch.ones(3)), "weights quantized with GPTQ or AWQ"),
        (with_tensors(model__x__weight_scale_2=torch.ones(3)), "weights quantized with NVFP4"),
    ],
    ids=["no scales", "integers", "misfit", "unknown method", "bitsandbytes", "gptq", "nvfp4"],
)
def test_what_is_not_known_is_refused_by_name(checkpoint, tmp_path, change, reason):
    folder = shutil.copytree(checkpoint("olmoe"), tmp_path / "olmoe")
    change(folder)
    for read in (load, load_causal):
        with pytest.raises(ModelError, match=reason) as error:
            read(folder)
        assert "\n" not in str(error.value)
