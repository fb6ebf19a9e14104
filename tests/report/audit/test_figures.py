"""Each figure's data against a run small enough to compute by hand.

Layer 3 has four experts, layer 5 has three; two domains, K = 1. Contributions of the mean domain are in sixteenths.
"""

from pathlib import Path

import numpy as np
import pytest
from report.synthetic import write_run

from turnout.report import figures, read_run
from turnout.report.audit.stored import StoredRun

A = [[8, 4, 2, 2], [12, 2, 1, 1]]  # expert 0 leads in both domains
B = [[8, 6, 2], [4, 10, 2]]  # 0 leads in the first domain, 1 in the second
NO_EVIDENCE = {"interval": None, "rotated": None, "ceiling": None}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    cubes = [np.array(A) / 16, np.array(B) / 16]
    path = tmp_path_factory.mktemp("small") / "run"
    made = write_run(path, domains=["left", "right"], top_k=1, contribution_LDE=cubes, numbers=(3, 5))
    return read_run(made)


def test_heat_map_of_a_domain(run: StoredRun) -> None:
    drawn = figures.heat_map(run, "gate", "right")
    assert drawn["layers"] == [3, 5]
    assert drawn["experts"] == [0, 1, 2, 3]
    assert drawn["values"] == [[0.75, 0.125, 0.0625, 0.0625], [0.25, 0.625, 0.125, None]]


def test_heat_map_of_the_mean(run: StoredRun) -> None:
    assert figures.heat_map(run, "gate")["values"] == [[0.625, 0.1875, 0.09375, 0.09375], [0.375, 0.5, 0.125, None]]


def test_heat_map_of_another_kind(run: StoredRun) -> None:
    assert figures.heat_map(run, "frequency", "left")["values"] == [[1, 0, 0, 0], [1, 0, 0, None]]


def test_marks_are_members_then_other_candidates(run: StoredRun) -> None:
    drawn = figures.heat_map(run, "released", "left")
    assert drawn["members"] == [[0, 0], [1, 0], [1, 1]]  # the second layer's two fallbacks are equal: both stay
    assert drawn["candidates"] == []
    assert figures.marks([{"committee": [2], "candidates": [1, 2, 4]}]) == {
        "members": [[0, 2]],
        "candidates": [[0, 1], [0, 4]],
    }


def test_rank_plane(run: StoredRun) -> None:
    drawn = figures.rank_plane(run, 5)
    assert drawn["expert"] == [0, 1, 2]
    assert drawn["mean_rank"] == [1.5, 1.5, 2.0]
    assert drawn["rank_variance"] == [0.25, 0.25, 0.0]
    assert drawn["presence"] == [0.5, 0.5, 0.0]
    assert drawn["role"] == ["member", "member", "other"]


def test_lorenz_curve_starts_at_the_poorest(run: StoredRun) -> None:
    drawn = figures.lorenz_curve(run, 5)
    assert drawn["experts"] == [0, 1 / 3, 2 / 3, 1]
    assert drawn["share"] == [0, 0.125, 0.5, 1.0]


def test_lorenz_curve_of_a_layer_without_contribution_is_empty(run: StoredRun) -> None:
    tables = run.tables | {"lorenz": run.tables["lorenz"].filter(run.tables["lorenz"]["layer"] != 5)}
    assert figures.lorenz_curve(StoredRun(run.path, run.audit, run.manifest, tables), 5) == {"experts": [], "share": []}


def test_jaccard_matrix(run: StoredRun) -> None:
    assert figures.jaccard_matrix(run, 3) == {"domains": ["left", "right"], "values": [[1, 1], [1, 1]]}
    assert figures.jaccard_matrix(run, 5)["values"] == [[1, 0], [0, 1]]


def test_layer_table_holds_each_figure_with_its_floor(run: StoredRun) -> None:
    first, second = figures.layer_table(run)
    assert (first["layer"], first["experts"], first["top_k"], first["fallback"]) == (3, 4, 1, False)
    assert first["coverage"] == {"value": 0.625, "floor": 0.25} | NO_EVIDENCE
    assert first["coverage_topk"] == {"value": 1.0, "floor": 1.0} | NO_EVIDENCE
    assert first["gini_topk"] == {"value": 0.75, "floor": 0.75} | NO_EVIDENCE
    assert first["gini"]["floor"] is None
    assert second["fallback"]
    assert second["coverage"] == {"value": 0.875, "floor": pytest.approx(2 / 3)} | NO_EVIDENCE
    assert second["influence_ratio"]["value"] == pytest.approx(0.4375 / 0.125)


def test_overview_is_over_layers(run: StoredRun) -> None:
    entries = {entry["measure"]: entry for entry in figures.overview(run.audit)}
    assert (
        entries["coverage"]
        == {
            "measure": "coverage",
            "mean": 0.75,
            "min": 0.625,
            "max": 0.875,
            "floor": pytest.approx((1 / 4 + 2 / 3) / 2),
            "without": [],
        }
        | NO_EVIDENCE
    )
    assert entries["jaccard_mean"]["mean"] == 0.5
    assert entries["jaccard_mean"]["floor"] is None


def test_depth_profile(run: StoredRun) -> None:
    drawn = figures.depth_profile(run, "coverage")
    assert drawn == {"layer": [3, 5], "value": [0.625, 0.875], "floor": [0.25, pytest.approx(2 / 3)]} | {
        name: [None, None] for name in NO_EVIDENCE
    }


def test_start_is_the_layer_of_greatest_coverage(run: StoredRun) -> None:
    assert figures.start(run.layers) == {"row": 1, "expert": 0}
    undefined = [{"coverage": None, "committee": [2]}, {"coverage": None, "committee": [1]}]
    assert figures.start(undefined) == {"row": 0, "expert": 2}


def test_specificity_is_layers_by_domains(run: StoredRun) -> None:
    drawn = figures.specificity(run)
    assert drawn["values"][1] == [run.layers[1]["specificity"]["left"], run.layers[1]["specificity"]["right"]]


def test_expert_card(run: StoredRun) -> None:
    card = figures.expert_card(run, 5, 1, "gate")
    assert card["contribution"] == [0.375, 0.625]
    assert card["rank"] == [2, 1]
    assert (card["mean_rank"], card["rank_variance"], card["presence"], card["share"]) == (1.5, 0.25, 0.5, 0.5)


def test_one_domain_has_no_jaccard_and_no_specificity(tmp_path: Path) -> None:
    alone = read_run(write_run(tmp_path / "run", 1, 4, ["only"]))
    assert figures.specificity(alone)["values"] == [[None]]
    assert figures.jaccard_matrix(alone, 0)["values"] == [[1]]
    assert {e["measure"]: e["mean"] for e in figures.overview(alone.audit)}["jaccard_mean"] is None


def test_a_dropped_domain_is_drawn_but_not_averaged(tmp_path: Path) -> None:
    cubes = [np.array(A) / 16]
    path = write_run(tmp_path / "run", domains=["left", "right"], top_k=1, contribution_LDE=cubes, dropped=["right"])
    run = read_run(path)
    assert figures.heat_map(run, "gate")["values"] == [[0.5, 0.25, 0.125, 0.125]]
    assert figures.heat_map(run, "gate", "right")["values"] == [[0.75, 0.125, 0.0625, 0.0625]]
    assert figures.jaccard_matrix(run, 0)["values"] == [[1, None], [None, None]]
    assert figures.expert_card(run, 0, 0, "gate")["rank"] == [1, None]
