"""Measuring coupling: plain loops, files against live models, memory, kills and bad input."""

import json
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from coupling.plain import plain_norms
from listeners import Recorder
from sparse_checkpoint import Shapes, sparse_checkpoint
from tiny import random_model, tiny_tokenizer

from turnout import CouplingResult, MeasureConfig, measure_coupling, ops
from turnout.coupling import pieces
from turnout.errors import ModelError, RecipeError, RunError
from turnout.models.change.adapter import DESCRIPTION, TENSORS, RouterAdapter, RouterWeights
from turnout.models.wrap.anatomy import read
from turnout.models.wrap.load import load
from turnout.runs import verify

FEW = {"permutations": 199, "resamples": 200}


@pytest.fixture(scope="session")
def measured(checkpoint, tmp_path_factory):
    """The coupling of an OLMoE from its files, in a run folder."""
    return measure_coupling(checkpoint("olmoe"), out=tmp_path_factory.mktemp("coupling") / "run", **FEW)


def test_tables_and_figures_against_plain_loops(measured):
    model = random_model("olmoe")
    matrix, experts = measured.table("coupling_matrix"), measured.table("experts")
    for layer in measured.layers:
        block = model.model.layers[layer["layer"]].mlp
        norms, lengths = plain_norms(block.gate.weight, block.experts.gate_up_proj)
        own = matrix.filter(layer=layer["layer"])
        assert own["norm"].to_list() == pytest.approx([*chain(*norms)], rel=1e-4)
        routers, gates = lengths
        free = [m / r / g for row, r in zip(norms, routers, strict=True) for m, g in zip(row, gates, strict=True)]
        assert own["norm_scale_free"].to_list() == pytest.approx(free, rel=1e-4)
        of = experts.filter(layer=layer["layer"])
        assert of["diagonal"].to_list() == pytest.approx([norms[i][i] for i in range(8)], rel=1e-4)
        ranks = [1 + sum(value > row[i] for value in row) for i, row in enumerate(norms)]
        assert of["row_rank"].to_list() == ranks
        assert layer["raw"]["rows"]["value"] == pytest.approx(sum(rank == 1 for rank in ranks) / 8)
        assert of["row_dominant"].to_list() == [rank == 1 for rank in ranks]
        columns = [1 + sum(row[i] > norms[i][i] for row in norms) for i in range(8)]
        assert of["column_rank"].to_list() == columns
        bound = ops.noise_bound(block.gate.weight.detach().double())
        assert of["noise_bound"].to_list() == pytest.approx(bound.tolist())
        assert layer["noise_bound"]["value"] == pytest.approx(float(bound.mean()))
        for loss in layer["raw"]["loss"]:
            by_hand = ops.erc_loss(torch.tensor(norms, dtype=torch.float64), loss["alpha"])
            assert loss["value"] == pytest.approx(float(by_hand), rel=1e-4)
        assert [loss["alpha"] for loss in layer["scale_free"]["loss"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss", "deepseek_v2"])
def test_files_and_a_live_model_agree(checkpoint, family):
    stored = measure_coupling(checkpoint(family), **FEW)
    live = measure_coupling(read(random_model(family)), **FEW)
    assert [layer["layer"] for layer in stored.layers] == [layer["layer"] for layer in live.layers]
    assert stored.to_dict()["layers"] == live.to_dict()["layers"]


def test_shrinking_weights_lowers_the_loss_but_not_the_scale_free_one(checkpoint):
    model = random_model("olmoe")
    whole = measure_coupling(read(model), **FEW)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate.weight *= 0.5
            layer.mlp.experts.gate_up_proj *= 0.5
    half = measure_coupling(read(model), **FEW)
    for before, after in zip(whole.layers, half.layers, strict=True):
        losses = [(a["value"], b["value"]) for a, b in zip(before["raw"]["loss"], after["raw"]["loss"], strict=True)]
        assert [b for _, b in losses] == pytest.approx([a / 4 for a, _ in losses])
        assert after["scale_free"]["loss"][0]["value"] == pytest.approx(before["scale_free"]["loss"][0]["value"])


def test_stored_loaded_and_not_computed_again(measured, checkpoint, monkeypatch):
    assert verify(measured.path) == []
    assert sorted(p.name for p in measured.path.iterdir() if not p.name.startswith(".")) == [
        "coupling.json",
        "inputs.json",
        "manifest.json",
        "report.html",
        "tables",
    ]
    loaded = CouplingResult.load(measured.path)
    assert loaded.to_dict() == measured.to_dict() == json.loads((measured.path / "coupling.json").read_text())
    frame = loaded.frame()
    assert frame.shape[0] == 2 * len(loaded.layers)
    assert {"layer", "scale", "rows", "rows_p", "loss_1", "loss_5_p", "noise_bound"} <= set(frame.columns)
    recorder = Recorder()
    monkeypatch.setattr("turnout.coupling.pieces.read_norms", None)  # not called
    again = measure_coupling(checkpoint("olmoe"), out=measured.path, listener=recorder, **FEW)
    assert again.to_dict() == measured.to_dict()
    assert recorder.notes == [f"{measured.path}: this run is complete; nothing is computed again"]
    with pytest.raises(RunError, match=r"config\.alphas"):
        measure_coupling(checkpoint("olmoe"), out=measured.path, alphas=(1,), **FEW)
    with pytest.raises(RunError, match=r"model\."):
        measure_coupling(checkpoint("mixtral"), out=measured.path, **FEW)


def test_overall_counts_layers_after_holm(measured):
    rows = measured.overall["raw"]["rows"]
    values = [layer["raw"]["rows"]["value"] for layer in measured.layers]
    assert rows["mean"] == pytest.approx(np.mean(values))
    assert (rows["min"], rows["max"]) == (min(values), max(values))
    p = torch.tensor([layer["raw"]["rows"]["p"] for layer in measured.layers])
    assert rows["coupled_layers"] == int((ops.holm(p) <= 0.05).sum())


def test_a_killed_run_resumes_to_the_same_bytes(checkpoint, tmp_path, monkeypatch, measured):
    calls, real = [], pieces.read_norms

    def killed(weights, report):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(weights.layer)
        return real(weights, report)

    out = tmp_path / "run"
    monkeypatch.setattr(pieces, "read_norms", killed)
    with pytest.raises(KeyboardInterrupt):
        measure_coupling(checkpoint("olmoe"), out=out, **FEW)
    files = sorted(out.glob("piece-layer-*"))
    assert [file.name for file in files] == ["piece-layer-0000.safetensors", "piece-layer-0001.safetensors"]
    damaged = bytearray(files[1].read_bytes())
    damaged[-3] ^= 1
    files[1].write_bytes(damaged)
    again, recorder = [], Recorder()

    def counted(weights, report):
        again.append(weights.layer)
        return real(weights, report)

    monkeypatch.setattr(pieces, "read_norms", counted)
    measure_coupling(checkpoint("olmoe"), out=out, listener=recorder, **FEW)
    assert again == [1, 2]
    (note,) = recorder.notes
    assert "piece-layer-0001.safetensors: damaged, or of another run" in note
    for name in ("coupling.json", "tables/coupling_matrix.parquet", "tables/experts.parquet"):
        assert (out / name).read_bytes() == (measured.path / name).read_bytes()
    assert verify(out) == []


MEASURE = """
import re, sys
from pathlib import Path
from turnout import measure_coupling
from turnout.models.checkpoint import stored

stored.REOPEN_AFTER = 16 << 20
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
for checkpoint in sys.argv[1:]:
    result = measure_coupling(checkpoint, permutations=199, resamples=200)
    print(peak(), result.layers[0]["raw"]["loss"][0]["value"])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel reports no peak memory")
def test_memory_does_not_grow_with_the_checkpoint(tmp_path, checkpoint):
    """The full size, 31 GB, is in benchmarks/coupling_memory.py."""
    shapes = Shapes(layers=5, experts=48, width=768, expert_width=512, vocabulary=1000, dense_width=1024)
    sizes = [sparse_checkpoint(tmp_path / str(f), shapes, fused=f, shards=2) for f in (False, True)]
    checkpoints = [checkpoint("olmoe"), tmp_path / "False", tmp_path / "True"]
    command = [sys.executable, "-c", MEASURE, *map(str, checkpoints)]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    before, *peaks = [line.split() for line in ran.stdout.splitlines()]
    gates = 4 * 48 * 768 * 512 * 2 / 2**20
    assert min(sizes) / 2**20 > 450
    for peak, loss in peaks:
        assert float(loss) > 0  # the filled layer was read
        assert int(peak) - int(before[0]) < 80 < gates / 1.75  # MiB; allocators differ by a few from run to run


def test_dense_checkpoints_and_infinite_weights_are_refused(checkpoint, tmp_path):
    with pytest.raises(ModelError, match="expected a Mixture-of-Experts checkpoint, got a dense one"):
        measure_coupling(checkpoint("llama"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    model = random_model("olmoe")
    with torch.no_grad():
        model.model.layers[1].mlp.experts.gate_up_proj[3, 0, 0] = torch.nan
    moe = read(random_model("olmoe"))
    moe.model.load_state_dict(model.state_dict())
    with pytest.raises(ModelError, match="layer 1, expert 3: expected a finite gate matrix, got NaN or infinity"):
        measure_coupling(moe, **FEW)


def test_with_an_adapter_the_trained_routers_are_measured(checkpoint, measured, tmp_path):
    moe = load(checkpoint("olmoe"))
    base = {name: moe.describe()[name] for name in ("id", "revision", "digest", "dtype", "architecture")}
    doubled = {name: 2 * tensor.detach() for name, tensor in RouterWeights.of(moe.layers[-1:]).tensors.items()}
    data, content = RouterAdapter(doubled, base, (moe.layers[-1].layer,), {"method": "by hand"}).encoded()
    (tmp_path / TENSORS).write_bytes(data)
    (tmp_path / DESCRIPTION).write_text(json.dumps(content))
    adapted = measure_coupling(checkpoint("olmoe"), adapter=tmp_path, **FEW)
    diagonals = [[layer["raw"]["diagonal"] for layer in result.layers] for result in (measured, adapted)]
    assert diagonals[1] == pytest.approx([*diagonals[0][:-1], 2 * diagonals[0][-1]])


def test_loading_options_are_refused_where_no_model_is_loaded(checkpoint):
    with pytest.raises(RecipeError, match=r"device: expected none without tasks: .*, got cpu"):
        measure_coupling(checkpoint("olmoe"), device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": ()}, "alphas: expected different finite numbers of 0 or more"),
        ({"alphas": (-1,)}, "alphas: expected different finite"),
        ({"alphas": (1, 1)}, "alphas: expected different finite"),
        ({"permutations": 10}, "permutations: expected 199 or more"),
        ({"scope": "first"}, "scope: expected 'last' or 'all', got 'first'"),
        ({"nonsense": 1}, "nonsense: expected a known key"),
    ],
)
def test_settings_that_do_not_fit(options, message):
    with pytest.raises(RecipeError, match=message):
        MeasureConfig.of(options)


def test_the_public_function_draws_the_page(checkpoint, tmp_path):
    result = measure_coupling(checkpoint("olmoe"), out=tmp_path / "run", **FEW)
    assert result.layers
    assert "router–expert coupling" in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert measure_coupling(random_model("olmoe"), tokenizer=tiny_tokenizer(), **FEW).layers
