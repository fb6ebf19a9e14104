"""Tables for a terminal: an audit's summary."""

from pathlib import Path

import numpy as np
import pytest
from report.synthetic import write_run

from turnout.report import read_run, summary

A = np.array([[8, 4, 2, 2], [12, 2, 1, 1]]) / 16
B = np.array([[4, 8, 2, 2], [2, 12, 1, 1]]) / 16


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", domains=["left", "right"], top_k=1, contribution_LDE=[A, A], numbers=(1, 2))


def test_summary_shows_figures_with_floors(plain: Path) -> None:
    layers, _, domains = summary(read_run(plain).audit)
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
    layers, more, ratio, _ = summary(audit)
    assert layers.columns == ("layer", "committee", "cand", "claim", "coverage", "coverage top-K")
    assert more.columns == ("layer", "Gini", "Gini top-K", "Jaccard")
    assert ratio.columns == ("layer", "influence")
    assert layers.title == "synthetic/moe, gate at last; [95 % interval over samples] (floor); * fallback"
    assert [row[3] for row in layers.rows[23:26]] == ["core", "dominant", "core"]
    low, high = audit["layers"][0]["intervals"]["coverage"]
    assert f"[{low:.2f} {high:.2f}]".replace("0.", ".") in layers.rows[0][4]


def test_summary_marks_a_fallback(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", domains=["left", "right"], top_k=1, contribution_LDE=[np.array([A[0], B[0]])])
    layers, *_ = summary(read_run(path).audit)
    assert layers.rows[0][1] == "0, 1*"
    assert "fallback" in layers.title


def test_summary_shows_accuracy_where_answers_were_scored(tmp_path: Path) -> None:
    *_, domains = summary(read_run(write_run(tmp_path / "run", 1, 4, accuracy=True)).audit)
    assert domains.columns[-1] == "accuracy"
    assert domains.rows[0][-1] == "0.438"


def test_undefined_figures_are_dashes(tmp_path: Path) -> None:
    layers, *_ = summary(read_run(write_run(tmp_path / "run", 1, 4, ["only"])).audit)
    assert layers.rows[0][layers.columns.index("Jaccard")] == "–"


def test_names_cannot_control_a_terminal(hostile: Path) -> None:
    for table in summary(read_run(hostile).audit):
        for cell in (table.title, *(cell for row in table.rows for cell in row)):
            assert cell.isprintable()
            assert len(cell) < 150


def test_a_measure_of_the_table_is_a_column(large: Path) -> None:
    audit = read_run(large).audit
    added = {
        "name": "added",
        "label": "Added",
        "short": "added",
        "unit": "experts",
        "direction": "more",
        "format": ".1f",
    }
    added |= {"bounds": [0, None], "floor": {"formula": "1", "value": 1.0}, "interval": None, "nulls": {}}
    audit["measures"].append(added | {"description": "An added measure."})
    audit["overall"]["added"] = {"mean": 2.5, "min": 2.5, "max": 2.5, "undefined": 0}
    audit["overall_without"] = {}
    for layer in audit["layers"]:
        layer["added"] = 2.5
    *tables, _ = summary(audit)
    (cells,) = [
        column for table in tables for column in zip(table.columns, *table.rows, strict=True) if column[0] == "added"
    ]
    assert set(cells[1:]) == {"2.5 (1.0)"}
