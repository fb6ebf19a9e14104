"""Figures for papers as PNG, and one line where they cannot be drawn."""

import importlib
import re
import struct
from pathlib import Path

import pytest
from report.synthetic import write_run

from turnout.report import png_missing, read_run, write_figures, write_png
from turnout.report.kit.svg import HEIGHT, WIDTH


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("png")
    return write_figures(read_run(write_run(folder / "run", 4, 8, evidence=True)), folder / "figures")


def test_each_figure_is_drawn_beside_its_svg(files: list[Path]) -> None:
    assert png_missing() is None
    drawn = write_png(files)
    assert drawn == [path.with_suffix(".png") for path in files]
    for path in drawn:
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", data[16:24]) == (3 * WIDTH, 3 * HEIGHT)
    first = drawn[0].read_bytes()
    assert write_png(files[:1])[0].read_bytes() == first


def test_text_and_colors_are_drawn(files: list[Path], tmp_path: Path) -> None:
    svg = next(path for path in files if path.stem == "map").read_text()
    versions = (svg, re.sub("<text.*?</text>", "", svg), re.sub('fill="#4[0-9a-f]{5}"', 'fill="#ffffff"', svg))
    paths = [tmp_path / f"{number}.svg" for number in range(len(versions))]
    for path, version in zip(paths, versions, strict=True):
        path.write_text(version)
    assert len({path.read_bytes() for path in write_png(paths)}) == len(versions)


def test_without_resvg_one_line_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *rest: object) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert png_missing() == "no PNG files: they need resvg (pip install 'turnout[png]')"


def test_without_a_font_one_line_names_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fontless:
        @staticmethod
        def svg_to_bytes(svg_string: str) -> bytes:
            import resvg_py

            return resvg_py.svg_to_bytes(svg_string=svg_string, skip_system_fonts=True)

    monkeypatch.setattr("turnout.report.kit.png.resvg", lambda: Fontless)
    assert "install one of the fonts Helvetica" in (png_missing() or "")
