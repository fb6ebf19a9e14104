"""Measuring coupling: planted pairings, plain loops, files against live models, memory, kills and bad input."""

import json
import subprocess
import sys
from itertools import chain, permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from coupling.plain import plain_norms
from sparse_checkpoint import Shapes, sparse_checkpoint
from tiny import random_model, tiny_tokenizer

import turnout
from turnout import ops
from turnout.coupling import CouplingResult, MeasureConfig, measure_coupling
from turnout.coupling.pairing import Draws, pairing_figures
from turnout.errors import ModelError, RecipeError, RunError
from turnout.models.wrap.anatomy import read
from turnout.runs import verify

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "coupling.json").read_text())
FEW = {"permutations": 199, "resamples": 200}
DRAWS = Draws.of(6, 4999, 2000, seed=0)


def planted(n=6, own=2.0, seed=0, pairing=None):
    """M whose entry [i, pairing[i]] is raised by `own`."""
    norms = torch.rand(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 1
    norms[range(n), list(range(n)) if pairing is None else pairing] += own
    return norms


def test_a_planted_pairing_is_found():
    found = pairing_figures(planted(), (1, 3), DRAWS)
    assert found["rows"]["value"] == found["columns"]["value"] == 1
    assert found["rows"]["expected"] == found["columns"]["expected"] == pytest.approx(1 / 6)
    assert found["loss"][0]["value"] == 0 < found["loss"][0]["expected"]
    assert max(found[name]["p"] for name in ("rows", "columns", "ratio")) < 0.01  # one pairing of 720
    assert found["loss"][0]["p"] < 0.01


def test_another_pairing_is_not_taken_for_the_own_one():
    found = pairing_figures(planted(pairing=[1, 2, 3, 4, 5, 0]), (1,), DRAWS)
    assert found["rows"]["value"] == found["columns"]["value"] == 0
    assert found["rows"]["interval"][1] > 0.3  # six rows show little
    assert min(found["rows"]["p"], found["loss"][0]["p"], found["ratio"]["p"]) > 0.2
    assert found["ratio"]["value"] < 1


def test_random_matrices_are_seldom_called_coupled():
    """The share of p ≤ 0.1 over matrices without any pairing: at most 0.1, and not next to nothing."""
    draws = Draws.of(8, 299, 50, seed=1)
    found = [pairing_figures(planted(8, own=0, seed=seed), (1,), draws) for seed in range(150)]
    for p_values in ([of["loss"][0]["p"] for of in found], [of["ratio"]["p"] for of in found]):
        assert 0.03 < np.mean(np.array(p_values) <= 0.1) < 0.17
    assert np.mean([of["rows"]["p"] <= 0.1 for of in found]) < 0.15  # a count: p comes in steps


def test_p_and_expectation_against_every_pairing():
    norms, own = planted(4, own=0.4), {}
    everything = [norms[:, list(p)] for p in permutations(range(4))]

    def dominant(m):
        return sum(all(m[i, i] > m[i, j] for j in range(4) if j != i) for i in range(4)) / 4

    def columns(m):
        return dominant(m.T)

    own["rows"], own["columns"] = [dominant(m) for m in everything], [columns(m) for m in everything]
    own["ratio"] = [float(m.diagonal().mean()) for m in everything]
    losses = [float(ops.erc_loss(m, 1)) for m in everything]
    found = pairing_figures(norms, (1,), Draws.of(4, 20_000, 200, seed=0))
    for name, values in own.items():
        assert found[name]["p"] == pytest.approx(np.mean(np.array(values) >= values[0] - 1e-12), abs=0.02)
    assert found["rows"]["expected"] == pytest.approx(np.mean(own["rows"]))
    assert found["columns"]["expected"] == pytest.approx(np.mean(own["columns"]))
    assert found["loss"][0]["expected"] == pytest.approx(np.mean(losses))
    assert found["loss"][0]["p"] == pytest.approx(np.mean(np.array(losses) <= losses[0] + 1e-12), abs=0.02)


@pytest.mark.parametrize("case", VECTORS, ids=range(len(VECTORS)))
def test_published_vectors(case):
    norms = torch.tensor(case["norms"], dtype=torch.float64)
    alphas = [float(alpha) for alpha in case["loss"]]
    found = pairing_figures(norms, alphas, Draws.of(len(norms), 199, 200, seed=0))
    for loss, expected in zip(found["loss"], case["loss"].values(), strict=True):
        assert loss["value"] == pytest.approx(expected, abs=1e-9)


def test_degenerate_matrices():
    zeros = pairing_figures(torch.zeros(3, 3, dtype=torch.float64), (1,), Draws.of(3, 199, 200, seed=0))
    assert zeros["rows"]["value"] == 0  # nothing is larger than anything
    assert zeros["rows"]["expected"] == 0
    assert zeros["rows"]["p"] == zeros["loss"][0]["p"] == 1
    assert zeros["ratio"]["value"] is None
    one = pairing_figures(torch.ones(1, 1, dtype=torch.float64), (1,), Draws.of(1, 199, 200, seed=0))
    assert (one["rows"]["value"], one["rows"]["p"], one["ratio"]["value"], one["rest"]) == (1, 1, None, None)


@pytest.fixture(scope="session")
def found(checkpoint, tmp_path_factory):
    """An OLMoE's coupling from its files, kept in a folder."""
    return measure_coupling(checkpoint("olmoe"), out=tmp_path_factory.mktemp("coupling") / "run", **FEW)


def test_tables_and_figures_against_plain_loops(found):
    model = random_model("olmoe")
    matrix, experts = found.table("coupling_matrix"), found.table("experts")
    for layer in found.layers:
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


def test_saved_loaded_and_not_computed_again(found, checkpoint, monkeypatch):
    assert verify(found.path) == []
    assert sorted(p.name for p in found.path.iterdir() if not p.name.startswith(".")) == [
        "coupling.json",
        "inputs.json",
        "manifest.json",
        "tables",
    ]
    loaded = CouplingResult.load(found.path)
    assert loaded.to_dict() == found.to_dict() == json.loads((found.path / "coupling.json").read_text())
    frame = loaded.frame()
    assert frame.shape[0] == 2 * len(loaded.layers)
    assert {"layer", "scale", "rows", "rows_p", "loss_1", "loss_5_p", "noise_bound"} <= set(frame.columns)
    said = []
    monkeypatch.setattr("turnout.coupling.pieces.read_norms", None)  # not called
    again = measure_coupling(checkpoint("olmoe"), out=found.path, note=said.append, **FEW)
    assert again.to_dict() == found.to_dict()
    assert said == [f"{found.path}: this run is complete; nothing is computed again"]
    with pytest.raises(RunError, match=r"config\.alphas"):
        measure_coupling(checkpoint("olmoe"), out=found.path, alphas=(1,), **FEW)
    with pytest.raises(RunError, match=r"model\."):
        measure_coupling(checkpoint("mixtral"), out=found.path, **FEW)


def test_overall_counts_layers_after_holm(found):
    rows = found.overall["raw"]["rows"]
    values = [layer["raw"]["rows"]["value"] for layer in found.layers]
    assert rows["mean"] == pytest.approx(np.mean(values))
    assert (rows["min"], rows["max"]) == (min(values), max(values))
    p = torch.tensor([layer["raw"]["rows"]["p"] for layer in found.layers])
    assert rows["coupled_layers"] == int((ops.holm(p) <= 0.05).sum())


def test_a_killed_run_goes_on_to_the_same_bytes(checkpoint, tmp_path, monkeypatch, found):
    from turnout.coupling import pieces as measure_pieces

    calls, real = [], measure_pieces.read_norms

    def dies(weights, read):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(weights.layer)
        return real(weights, read)

    out = tmp_path / "run"
    monkeypatch.setattr(measure_pieces, "read_norms", dies)
    with pytest.raises(KeyboardInterrupt):
        measure_coupling(checkpoint("olmoe"), out=out, **FEW)
    pieces = sorted(out.glob("piece-layer-*"))
    assert [piece.name for piece in pieces] == ["piece-layer-0000.safetensors", "piece-layer-0001.safetensors"]
    damaged = bytearray(pieces[1].read_bytes())
    damaged[-3] ^= 1
    pieces[1].write_bytes(damaged)
    again, said = [], []

    def counts(weights, read):
        again.append(weights.layer)
        return real(weights, read)

    monkeypatch.setattr(measure_pieces, "read_norms", counts)
    measure_coupling(checkpoint("olmoe"), out=out, note=said.append, **FEW)
    assert again == [1, 2]
    assert len(said) == 1
    assert "piece-layer-0001.safetensors: not what this run wrote there" in said[0]
    for name in ("coupling.json", "tables/coupling_matrix.parquet", "tables/experts.parquet"):
        assert (out / name).read_bytes() == (found.path / name).read_bytes()
    assert verify(out) == []


MEASURE = """
import re, sys
from pathlib import Path
from turnout.coupling import measure_coupling
from turnout.models.checkpoint import stored

stored._MAPPED = 16 << 20
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
for checkpoint in sys.argv[1:]:
    found = measure_coupling(checkpoint, permutations=199, resamples=200)
    print(peak(), found.layers[0]["raw"]["loss"][0]["value"])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells no peak memory")
def test_memory_does_not_grow_with_the_checkpoint(tmp_path, checkpoint):
    """The full size, 31 GB, is in benchmarks/coupling_memory.py."""
    shapes = Shapes(layers=5, experts=48, width=768, expert_width=512, vocabulary=1000, dense_width=1024)
    sizes = [sparse_checkpoint(tmp_path / str(f), shapes, fused=f, shards=2) for f in (False, True)]
    asked = [checkpoint("olmoe"), tmp_path / "False", tmp_path / "True"]
    command = [sys.executable, "-c", MEASURE, *map(str, asked)]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    before, *peaks = [line.split() for line in ran.stdout.splitlines()]
    gates = 4 * 48 * 768 * 512 * 2 / 2**20
    assert min(sizes) / 2**20 > 450
    for peak, loss in peaks:
        assert float(loss) > 0  # the filled layer was read
        assert int(peak) - int(before[0]) < 80 < gates / 1.75  # MiB; allocators differ by a few from run to run


def test_what_cannot_be_measured(checkpoint, tmp_path):
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


def test_no_device_where_nothing_is_loaded(checkpoint):
    with pytest.raises(RecipeError, match=r"device: expected none without tasks: .*, got cpu"):
        measure_coupling(checkpoint("olmoe"), device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": ()}, "alphas: expected finite numbers of at least 0"),
        ({"alphas": (-1,)}, "alphas: expected finite"),
        ({"alphas": (1, 1)}, "alphas: expected each number once"),
        ({"permutations": 10}, "permutations: expected 199 or more"),
        ({"scope": "first"}, "scope: expected last or all, got first"),
        ({"nonsense": 1}, "nonsense: expected an option of measuring coupling"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(RecipeError, match=message):
        MeasureConfig.of(options)


def test_the_public_function_draws_the_page(checkpoint, tmp_path):
    result = turnout.measure_coupling(checkpoint("olmoe"), out=tmp_path / "run", **FEW)
    assert result.layers
    assert "router–expert coupling" in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert turnout.measure_coupling(random_model("olmoe"), tokenizer=tiny_tokenizer(), **FEW).layers
