"""Which files of a folder are read, by every verb alike; files that an index may not name; hub ids by the same rule."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import random_model, tiny_model

from turnout.api.merge import merge
from turnout.errors import ModelError
from turnout.models.change.adapter import RouterAdapter
from turnout.models.checkpoint.contents import read_contents
from turnout.models.checkpoint.files import INDEX, weight_files
from turnout.models.checkpoint.stored import read_stored
from turnout.models.wrap.load import load


@pytest.fixture
def both(tmp_path):
    """A folder with model.safetensors (seed 1) beside older shards and their index (seed 0)."""
    folder = tmp_path / "both"
    tiny_model("olmoe", folder, seed=1)
    new = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    random_model("olmoe", seed=0).save_pretrained(folder, max_shard_size="100KB")
    (folder / "model.safetensors").write_bytes(new)
    assert len(list(folder.glob("model-0*"))) > 2
    return folder


def digests(folder):
    """What the two ways of reading a checkpoint read: through transformers, and from the files alone."""
    moe, stored = load(folder), read_stored(folder)
    for layer, live in zip(stored.layers, moe.layers, strict=True):
        assert torch.equal(layer.router(), live.router.weight)
        assert all(torch.equal(g.T, e[:16]) for g, e in zip(layer.gates(), live.experts.gate_up_proj, strict=True))
    return moe.digest(), stored.digest


def test_a_single_file_beside_shards_is_what_every_reader_reads(both, tmp_path):
    assert digests(both) == digests(tiny_model("olmoe", tmp_path / "one", seed=1))
    (note,) = load(both).notes
    shards = len(list(both.glob("model-0*")))
    assert note == (
        f"model.safetensors is read; model-00001-of-0000{shards}.safetensors and {shards - 1} more, which "
        f"model.safetensors.index.json names, not"
    )
    assert read_stored(both).notes == (note,)


def test_merge_copies_what_was_read(both, tmp_path):
    moe = load(both)
    name, tensor = f"{moe.layers[0].name}.weight", torch.randn(8, 32)
    described = moe.describe()
    base = {key: described[key] for key in ("id", "revision", "digest", "dtype", "architecture")}
    encoded, content = RouterAdapter({name: tensor}, base, (0,), {}).encoded()
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter.safetensors").write_bytes(encoded)
    (adapter / "adapter.json").write_text(json.dumps(content))
    out = merge(both, adapter, tmp_path / "merged")
    assert sorted(f.name for f in out.glob("model*")) == ["model.safetensors"]
    merged = load(out)
    assert torch.equal(merged.layers[0].router.weight, tensor)
    assert torch.equal(merged.layers[1].router.weight, moe.layers[1].router.weight)


def test_an_index_of_the_single_file_is_no_note(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint("olmoe"), tmp_path / "olmoe"))
    names = dict.fromkeys(load_file(folder / "model.safetensors"), "model.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert read_contents(folder).notes == ()


def test_a_file_that_the_configuration_names(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint("olmoe"), tmp_path / "olmoe"))
    tiny_model("olmoe", tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / "model.safetensors", folder / "weights.safetensors")
    edit(folder, transformers_weights="weights.safetensors")
    assert digests(folder) == digests(tmp_path / "other")
    assert weight_files(folder).files == (folder / "weights.safetensors",)


def edit(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/secret", "a/../../secret", r"..\secret", "C:\\x", "", 7]
)
def test_no_file_outside_the_folder_is_read(checkpoint, tmp_path, name):
    folder = Path(shutil.copytree(checkpoint("olmoe"), tmp_path / "olmoe"))
    weights = load_file(folder / "model.safetensors")
    save_file(weights, tmp_path / "secret.safetensors")
    edit(folder, transformers_weights=name)
    for read in (load, read_stored):
        with pytest.raises(ModelError, match=r"config\.json: expected the name of a file in olmoe, got"):
            read(folder)
    edit(folder, transformers_weights=None)
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, name)}))
    for read in (load, read_stored, weight_files):
        with pytest.raises(ModelError, match=r"index\.json: expected the name of a file in olmoe, got"):
            read(folder)


def test_a_folder_below_the_checkpoint_may_be_named(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint("olmoe"), tmp_path / "olmoe"))
    (folder / "shards").mkdir()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "shards" / "one.safetensors")
    (folder / INDEX).write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, "shards/one.safetensors")})
    )
    assert digests(folder) == digests(checkpoint("olmoe"))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("adapter_config.json", r"a PEFT adapter \(adapter_config\.json\) beside it; merge it"),
        ("shard-00000-model-00001-of-00002.safetensors", "a distributed checkpoint; load it with transformers"),
    ],
)
def test_a_folder_from_which_transformers_would_load_more(checkpoint, tmp_path, file, reason):
    folder = Path(shutil.copytree(checkpoint("olmoe"), tmp_path / "olmoe"))
    (folder / file).write_text("{}")
    for read in (load, read_stored):
        with pytest.raises(ModelError, match=reason):
            read(folder)


def test_an_unreadable_index_beside_the_single_file_is_noted(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint("olmoe"), tmp_path / "olmoe"))
    (folder / INDEX).write_text("{")
    assert digests(folder) == digests(checkpoint("olmoe"))
    assert load(folder).notes == ("model.safetensors is read; model.safetensors.index.json, which cannot be read, not",)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """`hub(folder)` puts a folder into the hub's local cache, without network, as org/name."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def put(folder):
        repository, commit = tmp_path / "cache" / "models--org--name", "0" * 40
        shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
        return "org/name"

    return put


def test_a_hub_id_is_read_by_the_same_rule(both, hub, tmp_path):
    assert digests(hub(both)) == digests(tiny_model("olmoe", tmp_path / "one", seed=1))
    moe = load("org/name")
    assert moe.notes == load(both).notes
    assert moe.model_id == "org/name"


def test_a_quantized_hub_id(hub, tmp_path):
    from models.checkpoint.coded import store_in_float8

    folder = tiny_model("olmoe", tmp_path / "coded")
    store_in_float8(folder, "row")
    assert load(hub(folder)).digest() == load(folder).digest()


def test_shards_of_a_hub_id(hub, tmp_path, checkpoint):
    random_model("olmoe").save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert digests(hub(tmp_path / "shards")) == digests(checkpoint("olmoe"))
