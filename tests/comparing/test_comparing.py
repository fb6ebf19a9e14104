"""Runs side by side: matching, paired differences, committees and choices in common."""

import json

import numpy as np
import pytest
import torch
from auditing.planted import LAYERS, describe, domains_of, samples, write_trace

from turnout import compare
from turnout.auditing.config import AuditConfig
from turnout.auditing.evidence.bootstrap import Resamples
from turnout.auditing.measures import MEASURES
from turnout.auditing.run import complete
from turnout.comparing.overlap import set_overlap
from turnout.comparing.paired import difference_interval, drawn_contribution
from turnout.comparing.side import Side, match, rule
from turnout.errors import RunError
from turnout.listener import Listener
from turnout.runs import RunFolder, TraceLayer

pytestmark = pytest.mark.usefixtures("few_draws")
MODEL = {"id": "planted", "digest": "0" * 64}


def run(path, seed=0, layers=LAYERS, counts=None, **options):
    """A complete run over planted samples; each `seed` is another model on the same questions."""
    dataset = samples(counts or {"maths": 7, "law": 5}, layers=layers, seed=0, **options.pop("planted", {}))
    if seed:
        dataset = _perturbed(dataset, seed)
    write_trace(path, dataset, layers)
    with RunFolder.open(path, {"planted": True}) as folder:
        tasks, config = describe(dataset), AuditConfig.of(**options)
        complete(folder, folder, domains_of(dataset), config, MODEL, tasks, Listener())
    return path


def _perturbed(dataset, seed):
    """The same questions with router scores multiplied by noise, and the choices of these scores."""
    rng = np.random.default_rng(seed)
    for sample in dataset:
        for layer in sample["layers"].values():
            p_TE = layer["p"] * np.exp(rng.standard_normal(layer["p"].shape) * 0.5)
            layer["p"] = (p_TE / p_TE.sum(1, keepdims=True)).astype(np.float32)
            layer["chosen"] = np.argsort(-layer["p"], axis=1, kind="stable")[:, : layer["chosen"].shape[1]]
            layer["weights"] = np.take_along_axis(layer["p"], layer["chosen"], 1)
    return dataset


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return run(folder / "one"), run(folder / "two", seed=5)


def test_equal_runs_do_not_differ(pair, tmp_path):
    comparison = compare([pair[0], pair[0]]).to_dict()
    for layer in comparison["layers"]:
        assert {shift[1]["difference"] for shift in layer["differences"].values()} == {0.0}
        assert all(shift[1]["interval"] == [0.0, 0.0] for shift in layer["differences"].values())
        assert layer["overlap"][1]["jaccard"] == 1.0
        assert layer["agreement"][1]["value"] == 1.0
    json.dumps(comparison, allow_nan=False)


def test_differences_are_those_of_the_stored_figures_with_intervals(pair):
    comparison = compare(pair)
    one, two = (json.loads((path / "audit.json").read_text()) for path in pair)
    assert comparison.pairs[0] is None
    assert comparison.pairs[1]["paired"]
    assert comparison.pairs[1]["level"] == "samples"
    for entry, here, there in zip(comparison.layers, one["layers"], two["layers"], strict=True):
        for measure in MEASURES:
            shift = entry["differences"][measure][1]
            assert shift["difference"] == pytest.approx(there[measure] - here[measure])
            assert shift["interval"][0] <= shift["interval"][1]
        assert entry["differences"][measure][0] is None


def test_pairing_cancels_variation_shared_by_the_questions(tmp_path):
    """A copy with perturbed scores differs from its original less than from a run on other questions."""
    same = compare([run(tmp_path / "a"), run(tmp_path / "b", seed=5)]).to_dict()
    other = compare([tmp_path / "a", run(tmp_path / "c", seed=5, counts={"maths": 8, "law": 5})]).to_dict()
    assert same["pairs"][1]["paired"] is True
    assert other["pairs"][1]["paired"] is False
    assert other["layers"][0]["agreement"][1] is None
    width = [of["overall"][1]["differences"]["coverage"]["interval"] for of in (same, other)]
    assert width[0][1] - width[0][0] < width[1][1] - width[1][0]


def test_agreement_equals_a_plain_loop(pair):
    comparison = compare(pair).layers
    traces = [RunFolder.read(path).trace() for path in pair]
    for entry, layer in zip(comparison, LAYERS, strict=True):
        (a_TK, _), (b_TK, _) = (trace.chosen(layer.layer) for trace in traces)
        shared = sum(len(set(a) & set(b)) for a, b in zip(a_TK.tolist(), b_TK.tolist(), strict=True))
        agreement = entry["agreement"][1]
        assert agreement["value"] == pytest.approx(shared / a_TK.size)
        assert agreement["chance"] == layer.top_k / layer.experts
        assert agreement["interval"][0] <= agreement["value"] <= agreement["interval"][1]


def test_the_last_run_may_be_the_reference(pair):
    comparison = compare(pair, against_last=True).to_dict()
    assert comparison["reference"] == 1
    assert comparison["pairs"][1] is None
    first = compare(pair).layers[0]["differences"]["gini"][1]["difference"]
    assert comparison["layers"][0]["differences"]["gini"][0]["difference"] == pytest.approx(-first)


def test_other_numbers_of_layers_are_matched_by_depth(pair, tmp_path):
    deep = tuple(TraceLayer(n, experts=8, top_k=2) for n in range(4))
    comparison = compare([pair[0], run(tmp_path / "deep", layers=deep)]).to_dict()
    assert comparison["pairs"][1]["matched_by"] == "relative depth"
    assert [layer["matched"] for layer in comparison["layers"]] == [[1, 0], [4, 2]]
    assert comparison["layers"][0]["overlap"][1] is not None  # both choose 2 of 8
    assert comparison["layers"][1]["overlap"][1] is None
    assert comparison["layers"][1]["agreement"][1] is None


def test_other_kinds_have_no_intervals_and_a_reason(pair, tmp_path):
    comparison = compare([pair[0], run(tmp_path / "weight", kind="weight")]).to_dict()
    assert comparison["differences"] == ["different kind"]
    assert comparison["pairs"][1]["reason"] == "different kind: the figures are not comparable"
    assert comparison["layers"][0]["differences"]["coverage"][1]["interval"] is None
    assert comparison["overall"][1]["differences"]["coverage"]["interval"] is None


def test_released_has_paired_intervals_around_the_stored_figures(tmp_path):
    paths = [run(tmp_path / "one", kind="released"), run(tmp_path / "two", seed=5, kind="released")]
    comparison = compare(paths)
    assert comparison.pairs[1]["paired"]
    one, two = (json.loads((path / "audit.json").read_text())["layers"] for path in paths)
    widths = []
    for entry, here, there in zip(comparison.layers, one, two, strict=True):
        for measure in ("coverage", "gini", "jaccard_mean"):
            shift = entry["differences"][measure][1]
            assert shift["difference"] == pytest.approx(there[measure] - here[measure])
            assert shift["interval"][0] <= shift["difference"] <= shift["interval"][1]
            widths.append(shift["interval"][1] - shift["interval"][0])
    assert max(widths) > 0


@pytest.mark.parametrize("kind", ["gate", "frequency", "weight", "released"])
def test_the_first_draw_is_the_contribution_that_the_run_stored(tmp_path, kind):
    side = Side.read(run(tmp_path / kind, kind=kind))
    resamples = Resamples.draw(side.clusters, seed=0)
    stored = RunFolder.read(tmp_path / kind).read_table("contribution")
    for layer in LAYERS:
        drawn_RDE = drawn_contribution(side, layer, resamples)
        assert len(drawn_RDE) == 1 + len(resamples.counts_RS)
        for place, domain in enumerate(side.kept):
            expected = stored.filter(layer=layer.layer, domain=domain).sort("expert")[kind].to_numpy()
            np.testing.assert_allclose(drawn_RDE[0, place].numpy(), expected, rtol=1e-6)


def test_frame_has_a_row_for_each_layer_run_and_measure(pair):
    frame = compare(pair).frame()
    assert len(frame) == len(LAYERS) * 2 * len(MEASURES)
    assert frame.filter(frame["run"] == "one")["difference"].null_count() == len(LAYERS) * len(MEASURES)


def test_at_least_two_runs_are_needed(pair):
    with pytest.raises(RunError, match="two or more runs"):
        compare([pair[0]])


@pytest.mark.parametrize(
    ("reference", "other", "expected", "by"),
    [
        ([0, 1, 2], [0, 1, 2], [0, 1, 2], "number"),
        ([0, 1, 2], [1, 2, 3], [0, 1, 2], "position"),
        ([0, 1], [0, 1, 2, 3], [0, 2], "relative depth"),
        ([0, 1, 2, 3], [5], [0, 0, 0, 0], "relative depth"),
        ([0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 2, 4], "relative depth"),
    ],
)
def test_matching(reference, other, expected, by):
    assert match(reference, other) == expected
    assert rule(reference, other) == by


def test_overlap_of_random_sets():
    assert set_overlap([1, 2], [2, 3], 8) == {"jaccard": 1 / 3, "shared": 1, "p": pytest.approx(13 / 28)}
    assert set_overlap([1], [2], 4)["p"] == 1.0


def test_an_interval_includes_its_difference():
    at_the_bound = torch.tensor([0.0] * 99 + [-0.1])
    low, high = difference_interval(MEASURES["jaccard_mean"], at_the_bound, 0.0)
    assert low <= 0.0 <= high
