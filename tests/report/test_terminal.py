"""Tables for a terminal: an audit's summary and a comparison of runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from report.conftest import HOSTILE
from report.synthetic import write_run

from turnout.report import compare, comparison_tables, read_run, summary
from turnout.report.terminal import experts, name, number

A = np.array([[8, 4, 2, 2], [12, 2, 1, 1]]) / 16
B = np.array([[4, 8, 2, 2], [2, 12, 1, 1]]) / 16


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    common = {"domains": ["left", "right"], "top_k": 1}
    first = write_run(tmp_path / "first", contribution_LDE=[A, A], numbers=(1, 2), **common)
    return first, write_run(
        tmp_path / "second", contribution_LDE=[B, A], numbers=(2, 3), model_id="other/moe", **common
    )


def test_summary_shows_figures_with_floors(pair: tuple[Path, Path]) -> None:
    layers, domains = summary(read_run(pair[0]).audit)
    assert layers.title == "synthetic/moe, gate at last; floors in parentheses"
    assert layers.columns[:4] == ("layer", "committee", "cand", "coverage")
    assert layers.rows[0][:5] == ("1", "0", "1", "0.62 (.25)", "1.00 (1.00)")
    assert layers.rows[-1][:4] == ("mean", "", "", "0.62 (.25)")
    assert {len(row) for row in layers.rows} == {len(layers.columns)}
    assert [row[0] for row in domains.rows] == ["left", "right"]
    assert "accuracy" not in domains.columns


def test_summary_of_a_large_run_fits_eighty_columns(large: Path) -> None:
    for table in summary(read_run(large).audit):
        widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
        assert sum(widths) + 2 * (len(widths) - 1) <= 80


def test_summary_shows_intervals_and_the_claim(large: Path) -> None:
    audit = read_run(large).audit
    layers, more, _ = summary(audit)
    assert layers.columns == ("layer", "committee", "cand", "claim", "coverage", "top-K")
    assert more.columns == ("layer", "Gini", "top-K", "Jaccard")
    assert more.title == "intervals rest on samples"
    assert [row[3] for row in layers.rows[23:26]] == ["core", "dominant", "core"]
    low, high = audit["layers"][0]["intervals"]["coverage"]
    assert f"[{low:.2f} {high:.2f}]".replace("0.", ".") in layers.rows[0][4]


def test_summary_marks_a_fallback(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", domains=["left", "right"], top_k=1, contribution_LDE=[np.array([A[0], B[0]])])
    layers, _ = summary(read_run(path).audit)
    assert layers.rows[0][1] == "0, 1*"
    assert "fallback" in layers.title


def test_summary_shows_accuracy_where_answers_were_scored(tmp_path: Path) -> None:
    _, domains = summary(read_run(write_run(tmp_path / "run", 1, 4, accuracy=True)).audit)
    assert domains.columns[-1] == "accuracy"
    assert domains.rows[0][-1] == "0.438"


def test_undefined_figures_are_dashes(tmp_path: Path) -> None:
    layers, _ = summary(read_run(write_run(tmp_path / "run", 1, 4, ["only"])).audit)
    assert layers.rows[0][layers.columns.index("Jaccard")] == "–"


def test_names_cannot_steer_a_terminal(hostile: Path) -> None:
    for table in summary(read_run(hostile).audit):
        for cell in (table.title, *(cell for row in table.rows for cell in row)):
            assert cell.isprintable()
            assert len(cell) < 150
    assert name("a\x1b[31mb\u202ec") == "a [31mb c"
    assert len(name(HOSTILE[7])) == 40


def test_numbers_and_experts_as_text() -> None:
    assert number(None) == "–"
    assert number(0.12345) == "0.123"
    assert experts([7, 13, 40, 2, 3]) == "7, 13, 40 +2"


def test_compare_matches_layers_by_number(pair: tuple[Path, Path]) -> None:
    found = compare(pair)
    assert [run["model"] for run in found["runs"]] == ["synthetic/moe", "other/moe"]
    assert found["differences"] == []
    assert [layer["layer"] for layer in found["layers"]] == [1, 2, 3]
    assert [layer["committee"] for layer in found["layers"]] == [[[0], None], [[0], [1]], [None, [0]]]
    assert found["layers"][0]["coverage"] == [0.625, None]
    assert found["layers"][1]["coverage"] == [0.625, 0.625]
    json.dumps(found, allow_nan=False)


def test_compare_says_what_differs(pair: tuple[Path, Path]) -> None:
    first, second = (read_run(path) for path in pair)
    second.audit.update(kind="frequency", scope="all")
    second.audit["tasks"].update(digest="ef" * 32, domain_map="mmlu-4")
    differing = ["different kind", "different scope", "different questions", "different domain map"]
    assert compare([first, second])["differences"] == differing


def test_comparison_tables_show_the_distance_from_the_first(pair: tuple[Path, Path]) -> None:
    committee, coverage, *_ = comparison_tables(compare(pair))
    assert committee.columns == ("layer", "first", "second")
    assert committee.rows == (("1", "0", "–"), ("2", "0", "1"), ("3", "–", "0"))
    assert coverage.columns == ("layer", "first", "second", "second − first")
    assert coverage.rows[1] == ("2", "0.625", "0.625", "+0.000")
    assert coverage.rows[0] == ("1", "0.625", "–", "–")
