"""Figures for papers: well-formed SVG with the figures' own numbers, that loads nothing."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from report.conftest import HOSTILE
from report.synthetic import write_run

from turnout.report import figures, read_run, write_figures
from turnout.report.audit.paper import depth_svg, lorenz_svg, map_svg, plane_svg
from turnout.report.audit.stored import StoredRun

NAMESPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    return read_run(write_run(tmp_path_factory.mktemp("svg") / "run", 5, 8, HOSTILE, evidence=True))


def count(svg: str, tag: str) -> int:
    return len(list(ElementTree.fromstring(svg).iter(NAMESPACE + tag)))


def test_each_figure_is_a_well_formed_file_that_loads_nothing(run: StoredRun, tmp_path: Path) -> None:
    files = write_figures(run, tmp_path / "figures")
    assert [file.name for file in files][:2] == ["depth-coverage.svg", "depth-coverage_topk.svg"]
    assert len(files) == 9
    for file in files:
        text = file.read_text(encoding="utf-8")
        ElementTree.fromstring(text)
        assert "script" not in text
        assert text.count("http") == 1  # the namespace
    assert write_figures(run, tmp_path / "figures") == files


def test_a_depth_figure_has_band_nulls_and_a_point_a_layer(run: StoredRun) -> None:
    svg = depth_svg(run, "coverage")
    assert count(svg, "polygon") == 1
    assert count(svg, "circle") == 5
    assert count(svg, "path") == 4  # frame, floor, rotated, value


def test_a_run_without_intervals_has_no_band(tmp_path: Path) -> None:
    older = read_run(write_run(tmp_path / "older", 1, [4]))
    svg = depth_svg(older, "gini")
    assert count(svg, "polygon") == 0
    assert count(svg, "circle") == 1


def test_the_map_has_a_cell_for_each_expert_and_its_marks(run: StoredRun) -> None:
    svg, marks = map_svg(run), figures.marks(run.layers)
    assert count(svg, "rect") == 1 + 5 * 8
    assert count(svg, "circle") == len(marks["members"]) + len(marks["candidates"])


def test_plane_and_lorenz(run: StoredRun) -> None:
    assert count(plane_svg(run, 2), "circle") == 8
    assert count(lorenz_svg(run, 2), "path") == 1 + 5 + 1  # frame, layers, diagonal
