"""Device names: "auto" on machines with and without accelerators, refusals, and where the weights of a model are."""

import pytest
import torch
from tiny import random_model, tiny_model

from turnout.errors import ModelError
from turnout.models.change.dense import load_dense
from turnout.models.wrap.anatomy import read
from turnout.models.wrap.devices import choose_device, device_of, placement
from turnout.models.wrap.load import as_moe, load, load_causal


@pytest.fixture
def machine(monkeypatch):
    """`machine(cuda=2, mps=True)` pretends that this machine has those devices."""

    def pretend(cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize("device", [None, "auto"])
@pytest.mark.parametrize(
    ("cuda", "mps", "name", "where"),
    [
        (0, False, "cpu", {}),
        (0, True, "mps", {"device_map": {"": "mps"}}),
        (1, True, "cuda:0", {"device_map": {"": "cuda:0"}}),
        (2, False, "auto", {"device_map": "auto"}),
    ],
)
def test_auto_is_cuda_then_mps_then_cpu(machine, device, cuda, mps, name, where):
    machine(cuda, mps)
    assert choose_device(device) == name
    assert placement(device) == where


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cpu:0"])
def test_a_named_device_wins_over_an_accelerator(machine, device):
    machine(cuda=2)
    assert choose_device(device) == "cpu"
    assert placement(device) == {}


@pytest.mark.parametrize("device", ["warp", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_in_one_line(device):
    with pytest.raises(
        ModelError, match=r"^device: expected a device of this machine, .* got (warp|meta|cuda:99)"
    ) as e:
        choose_device(device)
    assert "\n" not in str(e.value)


def test_a_device_map_goes_with_auto_alone():
    device_map = {"": "cpu"}
    assert placement("auto", device_map) == placement(None, device_map) == {"device_map": device_map}
    with pytest.raises(ModelError, match="either device or device_map, got both"):
        placement("cpu", device_map)


@pytest.mark.parametrize("device", [None, "auto", "cpu"])
def test_every_loader_takes_the_same_names(checkpoint, device, machine):
    machine()
    path, dense = checkpoint("olmoe"), checkpoint("llama")
    models = (
        load(path, device=device),
        as_moe(path, device=device),
        load_causal(path, device=device)[0],
        load_dense(dense, device=device).model,
    )
    assert [device_of(model) for model in models] == ["cpu"] * 4


@pytest.mark.parametrize("loader", [load, as_moe, load_causal, load_dense])
def test_every_loader_refuses_the_same_names(checkpoint, loader):
    with pytest.raises(ModelError, match="device: expected a device of this machine"):
        loader(checkpoint("llama"), device="warp")


def test_auto_counts_as_not_given_for_a_loaded_model():
    moe = read(random_model("olmoe"))
    assert as_moe(moe, device="auto") is as_moe(moe, device=None) is moe
    with pytest.raises(ModelError, match="device: expected none: the model is loaded already, got cpu"):
        as_moe(moe, device="cpu")


def test_weights_on_several_devices_are_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    device_map = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    device_map |= {f"model.layers.{i}": "disk" for i in range(3)}
    moe = load(tiny_model("olmoe", tmp_path / "checkpoint"), device_map=device_map)
    assert device_of(moe) == device_of(moe.model) == "2 devices"
    assert device_of(torch.nn.Linear(2, 2, device="meta")) == "meta"
