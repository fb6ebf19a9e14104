"""Routers and gates read from files against the live model's, in every layout; refusals in one line."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import random_model, tiny_model

from turnout.errors import ModelError
from turnout.models.checkpoint.expert_names import places
from turnout.models.checkpoint.stored import read_stored

READ = [
    "olmoe",
    "qwen2_moe",
    "qwen3_moe",
    "deepseek_v2",
    "mixtral",
    "gpt_oss",
    "deepseek_v3",
    "glm4_moe",
    "ernie4_5_moe",
    "granitemoe",
    "lfm2_moe",
    "phimoe",
    "llama4_text",
]


def live(model):
    """(layer, R, every W_g) of a live model, by a plain loop over its modules."""
    rows = []
    for number, block in enumerate(model.model.layers):
        experts = [m for m in block.modules() if m._parameters.get("gate_up_proj", torch.empty(0)).dim() == 3]
        if not experts:
            continue
        routers = [m for n, m in block.named_modules() if n.rpartition(".")[2] in ("gate", "router")]
        fused, family = experts[0].gate_up_proj.detach(), model.config.model_type
        if family == "gpt_oss":
            gates = [w[:, ::2] for w in fused]
        elif family == "llama4_text":
            gates = [w.chunk(2, dim=1)[0] for w in fused]
        else:
            gates = [w.chunk(2, dim=0)[0].T for w in fused]
        rows.append((number, routers[0].weight.detach(), gates))
    return rows


def assert_same(path, model, dtype=torch.float32):
    stored = read_stored(path).layers
    expected = live(model)
    assert [layer.layer for layer in stored] == [number for number, _, _ in expected]
    assert all(layer.gated for layer in stored)
    for layer, (_, router, gates) in zip(stored, expected, strict=True):
        assert torch.equal(layer.router(), router.to(dtype))
        assert [torch.equal(a, b.to(dtype)) for a, b in zip(layer.gates(), gates, strict=True)] == [True] * len(gates)
        assert layer.router().dtype == next(layer.gates()).dtype == dtype


@pytest.mark.parametrize("family", READ)
def test_as_transformers_saves_it(checkpoint, family):
    assert_same(checkpoint(family), random_model(family))


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss", "granitemoe", "llama4_text"])
def test_fused_tensors_with_the_models_names(tmp_path, checkpoint, family):
    shutil.copy(checkpoint(family) / "config.json", tmp_path)
    model = random_model(family)
    save_file({n: p.contiguous() for n, p in model.state_dict().items()}, tmp_path / "model.safetensors")
    assert_same(tmp_path, model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(tmp_path, dtype):
    assert_same(tiny_model("mixtral", tmp_path, dtype=dtype), random_model("mixtral"), dtype)


def test_shards(tmp_path, checkpoint):
    shutil.copytree(checkpoint("olmoe"), tmp_path / "sharded")
    whole, folder = load_file(tmp_path / "sharded" / "model.safetensors"), tmp_path / "sharded"
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i, name in enumerate(sorted(whole)):  # consecutive experts are in different files
        weight_map[name] = f"model-{i % 3}.safetensors"
    for file in set(weight_map.values()):
        save_file({n: t for n, t in whole.items() if weight_map[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_same(folder, random_model("olmoe"))
    assert read_stored(folder).digest == read_stored(checkpoint("olmoe")).digest
    shard = folder / "model-1.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    refused(folder, r"model-1\.safetensors: expected a whole safetensors file.*copy or download it again")
    shard.unlink()
    refused(folder, r"model-1\.safetensors: expected the weights that the index names, got no such file")


def test_only_routers_and_gates_are_read(checkpoint, monkeypatch):
    read = []

    class Recording:
        def __init__(self, *args, **kwargs):
            self._file = safe_open(*args, **kwargs).__enter__()

        def __enter__(self):
            return self

        def get_slice(self, name):
            read.append(name)
            return self._file.get_slice(name)

    stored = read_stored(checkpoint("deepseek_v2"))
    monkeypatch.setattr("turnout.models.checkpoint.stored.safe_open", Recording)
    for layer in stored.layers:
        layer.router(), list(layer.gates())
    assert len(read) == len(stored.layers) * 9
    assert all(name.endswith(("mlp.gate.weight", ".gate_proj.weight")) for name in read)
    assert not any("shared" in name for name in read)


def test_the_digest_depends_on_the_weights(tmp_path, checkpoint):
    same = read_stored(checkpoint("mixtral")).digest
    assert read_stored(tiny_model("mixtral", tmp_path / "same")).digest == same
    assert read_stored(tiny_model("mixtral", tmp_path / "other", seed=1)).digest != same


def test_description_for_a_manifest(checkpoint):
    described = read_stored(checkpoint("qwen2_moe")).describe()
    assert {k: v for k, v in described.items() if k not in ("id", "digest")} == {
        "revision": None,
        "architecture": "Qwen2MoeForCausalLM",
        "dtype": "float32",
        "layers": [0, 2],
        "experts": 8,
        "width": 32,
        "expert_width": 16,
    }


def changed(checkpoint, tmp_path, family, tensors=lambda t: t, config=lambda c: c):
    """A copy of a checkpoint with other tensors or another configuration."""
    folder = tmp_path / "changed"
    shutil.copytree(checkpoint(family), folder)
    save_file(tensors(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    file = folder / "config.json"
    file.write_text(json.dumps(config(json.loads(file.read_text()))))
    return folder


def refused(path, message):
    with pytest.raises(ModelError, match=message) as error:
        read_stored(path)
    assert "\n" not in str(error.value)


def without(pattern):
    return lambda tensors: {name: t for name, t in tensors.items() if pattern not in name}


def test_experts_without_a_gate_have_their_first_matrix(checkpoint, tmp_path):
    folder = changed(checkpoint, tmp_path, "olmoe", without("gate_proj"))
    layer = read_stored(folder).layers[1]
    assert not layer.gated
    tensors = load_file(folder / "model.safetensors")
    for expert, gate in enumerate(layer.gates()):
        assert torch.equal(gate, tensors[f"model.layers.1.mlp.experts.{expert}.up_proj.weight"].T)


def test_a_prediction_head_beyond_the_last_layer_is_left_out(checkpoint, tmp_path):
    folder = changed(checkpoint, tmp_path, "olmoe", config=lambda c: c | {"num_hidden_layers": 2})
    assert [layer.layer for layer in read_stored(folder).layers] == [0, 1]


@pytest.mark.parametrize(
    ("family", "tensors", "message"),
    [
        ("llama", lambda t: t, r"expected a Mixture-of-Experts checkpoint, got a dense one \(llama\)"),
        ("jetmoe", lambda t: t, "expected one router in a decoder layer, got two in layer 0"),
        (
            "olmoe",
            without(".experts."),
            r"got a router .* but no experts of a known naming",
        ),
        ("olmoe", without("experts.3.gate"), "expected 8 experts under model.layers.0.mlp, got none numbered 3"),
        ("olmoe", without("mlp.gate.weight"), "expected one router with 8 rows under model.layers.0.mlp, got none"),
        (
            "olmoe",
            lambda t: t | {"model.layers.0.mlp.gate.weight": torch.zeros(9, 32)},
            r"one router with 8 rows under model.layers.0.mlp, got model.layers.0.mlp.gate.weight \[9, 32\]",
        ),
        (
            "olmoe",
            lambda t: t | {"model.layers.0.mlp.gate.weight": torch.zeros(8, 31)},
            r"of their router's width, 31, got a first matrix \[16, 32\] and a last one \[32, 16\]",
        ),
        (
            "olmoe",
            lambda t: t | {"model.layers.0.mlp.experts.0.gate_proj.weight": torch.zeros(15, 32)},
            "expected experts of one shape under model.layers.0.mlp, got 2 shapes",
        ),
        (
            "olmoe",
            lambda t: {n: x.to(torch.float8_e4m3fn) if "gate_proj" in n else x for n, x in t.items()},
            "float8 with scales or in MXFP4, got F8_E4M3 codes without scales in model.layers.0.mlp.experts.0",
        ),
    ],
    ids=["dense", "two routers", "no experts", "one missing", "no router", "rows", "width", "shapes", "dtype"],
)
def test_refusals_in_one_line(checkpoint, tmp_path, family, tensors, message):
    refused(changed(checkpoint, tmp_path, family, tensors), message)


def test_a_quantized_checkpoint_of_another_method(checkpoint, tmp_path):
    quantized = {"quantization_config": {"quant_method": "gptq"}}
    folder = changed(checkpoint, tmp_path, "gpt_oss", without("gate_up_proj"), lambda c: c | quantized)
    refused(folder, "MXFP4, got weights quantized with gptq.*pass the checkpoint that it was made from")


@pytest.mark.parametrize("head", ["mtp.layers.0", "model.mtp.layers.0", "model.mtp_layers.0", "model.layers.3"])
def test_prediction_heads_are_left_out(checkpoint, tmp_path, head):
    def with_head(tensors):
        of_a_layer = {n: t for n, t in tensors.items() if n.startswith("model.layers.0.")}
        return tensors | {n.replace("model.layers.0", head): t.clone() for n, t in of_a_layer.items()}

    folder = changed(checkpoint, tmp_path, "olmoe", with_head)
    stored, plain = read_stored(folder), read_stored(checkpoint("olmoe"))
    assert [layer.layer for layer in stored.layers] == [0, 1, 2]
    assert stored.digest == plain.digest
    assert not plain.notes


def test_no_such_checkpoint(tmp_path):
    refused(tmp_path / "nowhere", "expected a folder, or a hub id such as org/name, got no such folder")
    refused(tmp_path, "expected a checkpoint with config.json, got none")


def test_a_square_matrix_has_the_orientation_of_the_last_one():
    """With 2I = H the first matrix alone does not show its orientation."""

    def transposed(first, last):
        experts = {"model.layers.0.mlp.experts.gate_up_proj": first, "model.layers.0.mlp.experts.down_proj": last}
        (place,) = places({"model.layers.0.mlp.gate.weight": (4, 8), **experts}, "olmoe", None, "here")
        assert (place.expert_width, place.gated) == (4, True)
        return place.gates[0].transposed

    assert not transposed((4, 8, 8), (4, 8, 4))
    assert transposed((4, 8, 8), (4, 4, 8))
