"""Loading folders: dtype, device map, shards, tokenizer, and one line for every kind of damage."""

import gc
import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import random_model, tiny_model, tiny_tokenizer

from turnout.errors import ModelError
from turnout.models.forward.capture import capture
from turnout.models.wrap.load import load

PROMPTS = [[5, 6, 7, 8], [9, 10]]

FAMILIES = ["olmoe", "qwen2_moe", "qwen3_moe", "deepseek_v2", "mixtral", "gpt_oss"]


@pytest.fixture
def folder(checkpoint, tmp_path):
    """A private copy of a checkpoint, to be damaged."""
    return Path(shutil.copytree(checkpoint("olmoe"), tmp_path / "olmoe"))


@pytest.mark.parametrize("family", FAMILIES)
def test_loads_a_folder(family, checkpoint):
    moe = load(checkpoint(family))
    expected = random_model(family).state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in moe.model.state_dict().items())
    assert moe.tokenizer is not None
    assert moe.tokenizer("A")["input_ids"] == tiny_tokenizer()("A")["input_ids"]
    assert moe.revision is None
    assert moe.model_id == checkpoint(family).name
    assert not moe.model.training


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", "float32", "auto", None])
def test_dtype(dtype, folder):
    tiny_model("olmoe", folder, dtype=torch.bfloat16)
    assert load(folder, dtype).model.dtype == (torch.float32 if dtype == "float32" else torch.bfloat16)


@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
def test_device(device, checkpoint):
    assert load(checkpoint("mixtral"), device=device).model.device.type == "cpu"


@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_device_map(where, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    device_map = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    device_map |= {f"model.layers.{i}": where for i in range(3)}
    moe = load(checkpoint("olmoe"), device_map=device_map)
    assert moe.digest() == load(checkpoint("olmoe")).digest()
    whole = capture(load(checkpoint("olmoe")), PROMPTS, letters=[[1], [2]])
    for _ in range(2):
        spread = capture(moe, PROMPTS, letters=[[1], [2]])
        assert spread.choice_logprobs == whole.choice_logprobs
        assert [t.scores_BE.tolist() for t in capture(moe, PROMPTS).layers] == [
            t.scores_BE.tolist() for t in whole.layers
        ]
    offloaded = set(Path(tempfile.gettempdir()).glob("turnout-offload-*"))
    del moe
    gc.collect()
    assert not offloaded & set(Path(tempfile.gettempdir()).glob("turnout-offload-*"))


def test_a_folder_without_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert load(folder).tokenizer is None


def test_shards(folder):
    shutil.rmtree(folder)
    random_model("olmoe").save_pretrained(folder, max_shard_size="100KB")
    assert load(folder).digest() == load(tiny_model("olmoe", folder.parent / "whole")).digest()
    shard = sorted(folder.glob("model-0*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelError, match=rf"{shard.name}: expected the weights that the index names, got no such file"):
        load(folder)


def no_config(folder):
    (folder / "config.json").unlink()


def bad_config(folder):
    (folder / "config.json").write_text("{")


def list_config(folder):
    (folder / "config.json").write_text("[]")


def truncated(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def garbage(folder):
    (folder / "model.safetensors").write_bytes(b"not a checkpoint")


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def bad_index(folder):
    no_weights(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')


def edit_weights(folder, edit):
    file = folder / "model.safetensors"
    weights = load_file(file)
    edit(weights)
    save_file(weights, file, metadata={"format": "pt"})


def no_router(folder):
    edit_weights(folder, lambda weights: weights.pop("model.layers.1.mlp.gate.weight"))


def one_expert_less(folder):
    edit_weights(folder, lambda weights: weights.pop("model.layers.1.mlp.experts.3.up_proj.weight"))


def wrong_shape(folder):
    edit_weights(folder, lambda weights: weights.update({"model.norm.weight": torch.ones(3)}))


def edit_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def remote_code(folder):
    edit_config(folder, model_type="homemade", auto_map={"AutoModelForCausalLM": "modeling.Homemade"})


def unknown_type(folder):
    edit_config(folder, model_type="homemade")


def bad_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_config, r"expected a checkpoint with config\.json, got none"),
        (bad_config, r"config\.json: expected JSON"),
        (list_config, r"config\.json: expected a JSON object"),
        (truncated, r"model\.safetensors: expected a whole safetensors file"),
        (garbage, r"model\.safetensors: expected a whole safetensors file"),
        (no_weights, r"expected model\.safetensors, got no weights"),
        (pickled, r"got pickled weights only \(pytorch_model\.bin\); save it again"),
        (bad_index, r'index\.json: expected a "weight_map"'),
        (no_router, r"got none for model\.layers\.1\.mlp\.gate\.weight"),
        (one_expert_less, r"olmoe: expected"),
        (wrong_shape, r"olmoe: expected a checkpoint that transformers can load"),
        (remote_code, r"auto_map.*trust_remote_code=True"),
        (unknown_type, r"expected a model_type of transformers, got 'homemade'"),
        (bad_tokenizer, r"\(tokenizer\): expected a tokenizer"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damage_is_one_line(damage, message, folder):
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_dense(tmp_path):
    with pytest.raises(ModelError, match="a dense model"):
        load(tiny_model("llama", tmp_path))


def test_auto_map_of_a_known_type_is_accepted(folder):
    """Hub checkpoints of families that are part of transformers may still have an auto_map."""
    edit_config(folder, auto_map={"AutoModelForCausalLM": "modeling_olmoe.OlmoeForCausalLM"})
    assert load(folder).layers


@pytest.mark.parametrize("name", ["nowhere", "./nowhere/model", "a/b/c", "/nowhere/model", ""])
def test_a_name_that_is_neither_folder_nor_hub_id(name):
    with pytest.raises(ModelError, match="expected a folder"):
        load(name)


def test_a_file_is_refused(folder):
    with pytest.raises(ModelError, match="got a file"):
        load(folder / "config.json")


def test_a_hub_id_that_cannot_be_reached(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"nobody/no-such-model \(config.json\): expected a file of a hub checkpoint"):
        load("nobody/no-such-model")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float31"}, "dtype: expected a floating torch dtype"),
        ({"dtype": "int8"}, "dtype: expected a floating torch dtype"),
        ({"device": "warp"}, "device: expected a device of this machine"),
        ({"device": "cpu", "device_map": "auto"}, "either device or device_map"),
        ({"adapter": "adapter/"}, "adapter: expected a router adapter.*no such folder"),
    ],
)
def test_options(options, message, checkpoint):
    with pytest.raises(ModelError, match=message):
        load(checkpoint("olmoe"), **options)


def test_nothing_on_the_terminal(checkpoint, capfd):
    load(checkpoint("gpt_oss"))
    assert capfd.readouterr() == ("", "")
