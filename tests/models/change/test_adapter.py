"""Router adapters on disk: their contents, their base, and loading a base with one."""

import json

import pytest
import torch
from tiny import tiny_model

import turnout
from turnout.errors import ModelError
from turnout.models.change.adapter import DESCRIPTION, TENSORS, RouterAdapter, RouterWeights


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A bfloat16 checkpoint, an adapter with other routers for it, and those routers."""
    folder = tmp_path_factory.mktemp("adapter")
    moe = turnout.load(tiny_model("olmoe", folder / "base", dtype=torch.bfloat16))
    weights = RouterWeights.of(moe.layers[-2:])
    with torch.no_grad():
        for tensor in weights.tensors.values():
            tensor += torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
    describe = moe.describe()
    base = {name: describe[name] for name in ("id", "revision", "digest", "dtype", "architecture")}
    adapter = RouterAdapter(weights.tensors, base, tuple(x.layer for x in moe.layers[-2:]), {"method": "by hand"})
    data, content = adapter.encoded()
    (folder / "adapter").mkdir()
    (folder / "adapter" / TENSORS).write_bytes(data)
    (folder / "adapter" / DESCRIPTION).write_text(json.dumps(content))
    return folder / "base", folder / "adapter", {n: t.detach() for n, t in weights.tensors.items()}


def test_an_adapter_contains_and_changes_routers_only(trained):
    base, folder, tensors = trained
    adapter = RouterAdapter.read(folder)
    assert set(adapter.tensors) == {f"model.layers.{i}.mlp.gate.weight" for i in adapter.layers}
    assert all(torch.equal(adapter.tensors[name], tensors[name]) for name in tensors)
    plain, adapted = (
        dict(m.model.named_parameters()) for m in (turnout.load(base), turnout.load(base, adapter=folder))
    )
    for name, parameter in adapted.items():
        assert parameter.dtype == plain[name].dtype
        assert torch.equal(parameter, tensors[name].to(torch.bfloat16) if name in tensors else plain[name])


def test_another_dtype_is_the_same_base(trained):
    base, folder, tensors = trained
    moe = turnout.load(base, dtype="float32", adapter=folder)
    parameters = dict(moe.model.named_parameters())
    assert moe.model.dtype == torch.float32
    assert all(torch.equal(parameters[name], tensor) for name, tensor in tensors.items())


def test_refusals(trained, tmp_path):
    base, folder, _ = trained
    with pytest.raises(ModelError, match=r"the base of this adapter, base with digest .*, got digest"):
        turnout.load(tiny_model("olmoe", tmp_path / "other", seed=1, dtype=torch.bfloat16), adapter=folder)
    with pytest.raises(ModelError, match=r"a router adapter: .*, got a folder without"):
        turnout.load(base, adapter=base)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / DESCRIPTION).write_bytes((folder / DESCRIPTION).read_bytes())
    (damaged / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:-9])
    with pytest.raises(ModelError, match="a whole safetensors file"):
        RouterAdapter.read(damaged)
    content = json.loads((folder / DESCRIPTION).read_text())
    for change, words in (({"schema": 9}, "of schema 1"), ({"tensors": {}}, "the tensors that adapter.json lists")):
        (damaged / DESCRIPTION).write_text(json.dumps(content | change))
        (damaged / TENSORS).write_bytes((folder / TENSORS).read_bytes())
        with pytest.raises(ModelError, match=words):
            RouterAdapter.read(damaged)
