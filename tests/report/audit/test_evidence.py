"""Intervals and nulls of measures, what is missing, and what a run contains besides its audit."""

from pathlib import Path

import numpy as np
import pytest
from report.synthetic import write_run
from report.synthetic_evidence import write_masking

from turnout.errors import RunError
from turnout.report import figures, read_run
from turnout.report.audit import atlas, evidence, masking, words
from turnout.report.audit.stored import StoredRun


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    path = tmp_path_factory.mktemp("evidence") / "run"
    write_run(path, 3, [8, 12, 8], evidence=True, tokens=("a", " b", "c\n"))
    write_masking(path)
    return read_run(path)


def test_the_rotated_null_of_coverage_is_that_of_as_many_experts(run: StoredRun) -> None:
    layer = run.layers[1]
    size = len(layer["committee"])
    expected = layer["nulls"]["rotated"]["coverage_of_largest_q95"][size - 1]
    assert run.measure("coverage").null(layer, "rotated") == expected
    assert run.measure("gini").null(layer, "rotated") == 0.34
    assert run.measure("coverage_topk").null(layer, "rotated") is None


def test_an_influence_ratio_of_one_is_the_floor(run: StoredRun) -> None:
    ratio = run.measure("influence_ratio")
    assert ratio.null(run.layers[0], "floor") == 1.0
    assert ratio.null(run.layers[0] | {"influence_ratio": None}, "floor") is None


def test_only_jaccard_has_a_ceiling(run: StoredRun) -> None:
    with_ceiling = [measure.name for measure in run.measures if measure.null(run.layers[0], "ceiling") is not None]
    assert with_ceiling == ["jaccard_mean"]


def test_the_overview_averages_ends_of_intervals(run: StoredRun) -> None:
    coverage = figures.overview(run.audit)[0]
    lows = [layer["intervals"]["coverage"][0] for layer in run.layers]
    assert coverage["interval"][0] == pytest.approx(sum(lows) / 3)


def test_specificity_has_intervals(run: StoredRun) -> None:
    drawn = figures.specificity(run)
    assert drawn["intervals"][2][0] == run.layers[2]["intervals"]["specificity"][run.domains[0]]["interval"]
    assert set(drawn["levels"]) == {"samples"}


def test_the_rank_plane_has_stabilities(run: StoredRun) -> None:
    plane = figures.rank_plane(run, 0)
    assert plane["stability"] == pytest.approx([0.95 * share for share in plane["presence"]])


def test_contributions_have_ends_for_the_kind_that_was_audited_only(run: StoredRun) -> None:
    card = figures.expert_card(run, 0, 1, "gate")
    np.testing.assert_allclose(card["high"], 1.1 * np.array(card["contribution"]))
    assert figures.expert_card(run, 0, 1, "weight")["low"] == [None] * 9


def test_what_is_missing_is_named_with_its_reason(tmp_path: Path, run: StoredRun) -> None:
    assert evidence.missing(run.audit) == []
    older = read_run(write_run(tmp_path / "older", 2, 8))
    assert words.notes(older) == evidence.missing(older.audit)
    assert "from before audits computed intervals" in evidence.missing(older.audit)[0]
    bare = read_run(write_run(tmp_path / "bare", 2, 8, ["only"], evidence=True, rotated=False))
    notes = " ".join(words.notes(bare))
    assert "the trace holds no router inputs" in notes
    assert "there is only one domain" in notes


def test_tokens_and_partners_of_an_expert(run: StoredRun) -> None:
    places, texts = atlas.expert_tokens(run)
    assert places.shape == (3, 12, atlas.TOKENS)
    assert sorted(texts) == sorted(("a", " b", "c\n"))
    assert np.isnan(places[0, 8:]).all()  # layer 0 has eight experts
    assert np.isnan(places[0, 0, 3:]).all()  # there are three tokens
    partners = atlas.expert_partners(run)
    assert partners is not None
    np.testing.assert_array_equal(partners[1, 11, 0, 0], [1, 0, 3.5])


def test_tokens_bound_in_a_layer(run: StoredRun) -> None:
    bound = atlas.bound_tokens(run, 1)
    assert bound == {"committee": [[" b", 0.3, 4, 11]], "periphery": [["c\n", 0.3, 0, 12], ["a", 0.3, 0, 10]]}
    *classes, base = atlas.token_classes(run, 1)
    assert [row["class"] for row in classes] == ["punctuation", "content", "function"]
    assert base == {"class": "all", "count": 150, "rate": 33 / 153}


def test_a_run_without_tables_of_tokens_has_none(tmp_path: Path) -> None:
    plain = read_run(write_run(tmp_path / "run", 1, 4))
    assert atlas.bound_tokens(plain, 0) is None
    assert atlas.token_classes(plain, 0) == []
    assert atlas.expert_partners(plain) is None
    assert figures.budgets(plain) is None
    assert masking.bars(plain) == []


def test_budgets_run_along_k(run: StoredRun) -> None:
    budgets = figures.budgets(run)
    assert budgets is not None
    assert budgets["k"] == [1, 2, 4]
    assert list(budgets["names"].values()) == ["Retention", "Coverage", "Influence ratio", "Committee size"]
    assert budgets["modes"]["rerun"]["retention"] == [0.875, 1.0, 0.75]


def test_masking_beside_the_run_is_found(run: StoredRun) -> None:
    (entry,) = masking.bars(run)
    assert entry["title"] == "Accuracy: drop"
    assert [(row["layer"], row["set"], row["drop"]) for row in entry["rows"]] == [
        ("all", "committee", 0.09),
        ("all", "core", 0.02),
    ]
    assert entry["rows"][0]["random"]["p"] == 0.01
    assert entry["rows"][1]["random"] is None
    assert masking.sentence(entry).startswith("1 of 2 masked sets cost more than other experts of the same gate mass")


def test_masking_of_another_audit_is_left_out_unless_named_and_then_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", 1, 4)
    other = write_masking(path, identity="ff" * 32)
    assert read_run(path).masking == ()
    with pytest.raises(RunError, match="got one of another audit"):
        read_run(path, [other])


def test_a_measure_without_an_interval_in_a_layer_is_named(run: StoredRun) -> None:
    layers = [layer | {"intervals": layer["intervals"] | {"influence_ratio": None}} for layer in run.layers[:2]]
    (note,) = evidence.missing(run.audit | {"layers": layers})
    assert note.startswith("Influence ratio has no interval in layers 0, 1:")
