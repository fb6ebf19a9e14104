"""Upcycling tiny checkpoints: equality with the dense model, figures, resuming, refusals."""

import json
from pathlib import Path

import pytest
import torch
from auditing.few import few_draws
from listeners import Recorder
from tiny import tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from turnout import Upcycled, audit, upcycle
from turnout.errors import ModelError, RecipeError, RunError
from turnout.models.wrap.load import load
from turnout.upcycling import run as module

IDS = torch.arange(2 * 30).view(2, 30)
SMALL = {"tokens": 1600, "held_out": 800, "length": 50, "experts": 4, "top_k": 2}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("".join(f"line {i} of {i * i} things and {i % 7} others\n" for i in range(300)))
    return file


@pytest.fixture(scope="module")
def dense(checkpoint):
    return checkpoint("llama")


@pytest.fixture(scope="module")
def upcycled(dense, text, tmp_path_factory):
    return upcycle(dense, tmp_path_factory.mktemp("upcycled") / "moe", text, **SMALL)


def logits(folder):
    """Logits of transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return model(input_ids=IDS).logits


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_split_with_all_experts_chosen_equals_the_dense_model(family, text, tmp_path):
    dense = tiny_model(family, tmp_path / "dense")
    upcycle(dense, tmp_path / "moe", text, **{**SMALL, "top_k": 4})
    torch.testing.assert_close(logits(tmp_path / "moe"), logits(dense), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_copy_equals_the_dense_model(family, text, tmp_path):
    dense = tiny_model(family, tmp_path / "dense")
    upcycled = upcycle(dense, tmp_path / "moe", text, **SMALL, method="copy")
    torch.testing.assert_close(logits(tmp_path / "moe"), logits(dense), atol=1e-5, rtol=1e-5)
    loss = {row["model"]: row["loss"] for row in upcycled.losses}
    assert loss["fitted"] == pytest.approx(loss["dense"], abs=1e-5)
    busiest = upcycled.layers()
    assert busiest["load"].mean() < busiest["load_before"].mean()


def test_noise_makes_copies_differ(dense, text, tmp_path):
    upcycled = upcycle(dense, tmp_path / "moe", text, **SMALL, method="copy", noise=0.1)
    moe, base = load(tmp_path / "moe"), AutoModelForCausalLM.from_pretrained(dense)
    expected = base.model.layers[1].mlp.down_proj.weight.detach()
    difference = (moe.layers[1].experts.down_proj - expected).detach()
    assert difference.std(dim=(1, 2)).tolist() == pytest.approx([0.1 * float(expected.std())] * 4, rel=0.15)
    assert not torch.equal(difference[0], difference[1])
    assert upcycled.to_dict()["equality"] < 1e-5  # measured without the noise
    assert abs(upcycled.losses[1]["difference"]) > 1e-4


def test_experts_are_the_dense_neurons(upcycled, dense):
    base = AutoModelForCausalLM.from_pretrained(dense).model.layers
    for layer, decoder in zip(load(upcycled.path).layers, base, strict=True):
        gate_up, down = (layer.experts.get_parameter(name).detach() for name in ("gate_up_proj", "down_proj"))
        neurons = torch.cat([gate_up[:, :12], gate_up[:, 12:], down.transpose(1, 2) / 2], 2).reshape(48, -1)
        expected = torch.cat(
            [decoder.mlp.gate_proj.weight, decoder.mlp.up_proj.weight, decoder.mlp.down_proj.weight.T], 1
        )
        order = [int((expected == neuron).all(1).nonzero()) for neuron in neurons]
        assert sorted(order) == list(range(48))
        assert order != list(range(48))


def test_losses_are_transformers_own(upcycled, dense, text):
    """Computed again with transformers' loss on the same windows."""
    from turnout.upcycling.config import UpcycleConfig
    from turnout.upcycling.text import read_text

    windows = read_text([text], AutoTokenizer.from_pretrained(dense), UpcycleConfig(**SMALL)).held_out
    for name, folder in (("dense", dense), ("fitted", upcycled.path)):
        model = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            expected = float(model(input_ids=windows, labels=windows).loss)
        assert next(row["loss"] for row in upcycled.losses if row["model"] == name) == pytest.approx(expected, abs=1e-4)


def test_figures(upcycled):
    assert [row["model"] for row in upcycled.losses] == ["dense", "before fitting", "fitted", "random split"]
    layers = upcycled.layers()
    assert layers["layer"].to_list() == [0, 1, 2]
    assert (layers["error"] < layers["error_before"]).all()
    assert (layers["error_ideal"] > 0).all()
    frame = upcycled.frame()
    assert frame["low"][0] is None
    assert (frame["low"][1:] <= frame["difference"][1:]).all()
    assert upcycled.to_dict()["equality"] < 1e-5
    assert Upcycled.load(upcycled.path).to_dict() == upcycled.to_dict()
    assert "mixtral, 4 experts by split" in repr(upcycled)


def test_the_same_call_gives_the_same_bytes(upcycled, dense, text, tmp_path):
    upcycle(dense, tmp_path / "moe", text, **SMALL)
    assert contents(tmp_path / "moe") == contents(upcycled.path)


def test_a_finished_folder_is_not_changed(upcycled, dense, text):
    before, notes = contents(upcycled.path), []
    again = upcycle(dense, upcycled.path, text, listener=Recorder(notes), **SMALL)
    assert again.to_dict() == upcycled.to_dict()
    assert "nothing to do" in notes[0]
    assert again.already_complete
    assert contents(upcycled.path) == before
    with pytest.raises(RunError, match="another config"):
        upcycle(dense, upcycled.path, text, **{**SMALL, "seed": 1})


@pytest.mark.parametrize("stop", ["layer 1", "loss of fitted", "writing"])
def test_a_stopped_call_resumes(stop, upcycled, dense, text, tmp_path, monkeypatch):
    def stopped(what, done, total, unit):
        if (stop, what, done) in {("layer 1", "layers", 2), ("loss of fitted", "loss, fitted", 16)}:
            raise KeyboardInterrupt

    def unwritable(moe, folder):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        if stop == "writing":
            patched.setattr(module, "save", unwritable)
        with pytest.raises((KeyboardInterrupt, RunError)):
            upcycle(dense, tmp_path / "moe", text, listener=Recorder(on_progress=stopped), **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == [".moe.upcycling"]
    fits = []
    monkeypatch.setattr(module, "fit_layer", lambda *args: fits.append(args[1]) or fit_layer(*args))
    upcycle(dense, tmp_path / "moe", text, **SMALL)
    assert fits == ([2] if stop == "layer 1" else [])
    assert contents(tmp_path / "moe") == contents(upcycled.path)
    assert [path.name for path in tmp_path.iterdir()] == ["moe"]


fit_layer = module.fit_layer


def test_remains_of_a_kill_are_removed(upcycled, dense, text, tmp_path):
    for name in (".moe.tmp-1", ".moe.upcycling"):
        (tmp_path / name).mkdir()
    (tmp_path / ".moe.tmp-1" / "model.safetensors").write_bytes(b"half")
    upcycle(dense, tmp_path / "moe", text, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["moe"]
    (tmp_path / ".moe.upcycling").mkdir()  # as after a kill behind the last rename
    upcycle(dense, tmp_path / "moe", text, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["moe"]


def test_an_unfinished_folder_of_other_inputs(dense, text, tmp_path):
    def stopped(what, done, total, unit):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upcycle(dense, tmp_path / "moe", text, listener=Recorder(on_progress=stopped), **SMALL)
    with pytest.raises(RunError, match=r"\.moe\.upcycling.*config\.top_k = 2"):
        upcycle(dense, tmp_path / "moe", text, **{**SMALL, "top_k": 1})


def test_bfloat16_is_kept(text, tmp_path):
    dense = tiny_model("llama", tmp_path / "dense", dtype=torch.bfloat16, intermediate_size=64)
    upcycle(dense, tmp_path / "moe", text, **{**SMALL, "top_k": 4})
    moe, base = load(tmp_path / "moe"), AutoModelForCausalLM.from_pretrained(dense)
    assert {p.dtype for p in moe.model.parameters()} == {torch.bfloat16}
    assert moe.layers[0].router.weight.dtype == base.dtype


def test_the_checkpoint_can_be_audited(upcycled, tmp_path, monkeypatch):
    few_draws(monkeypatch.setattr)
    questions = tmp_path / "questions.jsonl"
    rows = [
        {"question": f"{i}?", "choices": ["a", "b"], "subject": str(i % 4), "domain": str(i % 2)} for i in range(12)
    ]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = audit(upcycled.path, questions)
    assert [layer["experts"] for layer in result.layers] == [4, 4, 4]


@pytest.mark.parametrize(
    ("family", "changes", "error", "message"),
    [
        ("olmoe", {}, ModelError, "a MoE already"),
        ("llama", {"experts": 7}, ModelError, "divides the networks' 48 neurons, got 7; take 2, 3, 4, 6"),
        (
            "llama",
            {"experts": 8},
            ModelError,
            "of a multiple of 4 neurons.*got 8, of 6 each; take 3, 4, 6, 12",
        ),
        ("llama", {"top_k": 5}, RecipeError, "at most the 4 experts"),
    ],
)
def test_refusals(family, changes, error, message, checkpoint, text, tmp_path):
    with pytest.raises(error, match=message):
        upcycle(checkpoint(family), tmp_path / "moe", text, **{**SMALL, **changes})
    assert not any(tmp_path.iterdir())


def test_a_foreign_folder(dense, text, tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ModelError, match="a new or empty folder"):
        upcycle(dense, tmp_path, text, **SMALL)
    assert contents(tmp_path) == {"kept": b"mine"}
