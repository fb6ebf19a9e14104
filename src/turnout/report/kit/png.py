"""Figures for papers as PNG: the SVG files drawn by resvg, of the extra `png`, without a browser or a network."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from turnout.report.audit.paper import FONTS
from turnout.runs import atomic

ZOOM = 3  # pixels a point: 450 a printed inch where a figure is 3.2 inches wide
_PROBE = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20" font-family="{}"><text y="15">{}</text></svg>'


def png_missing() -> str | None:
    """Why PNG files cannot be drawn here and what to do about it, in one line; None if they can."""
    resvg = _resvg()
    if resvg is None:
        return "no PNG files: they need resvg (pip install 'turnout[png]')"
    blank, word = (resvg.svg_to_bytes(svg_string=_PROBE.format(FONTS, text)) for text in ("", "Layer"))
    # Without a font resvg leaves all words out and says nothing.
    return f"no PNG files: install one of the fonts {FONTS}" if blank == word else None


def write_png(files: Sequence[Path]) -> list[Path]:
    """Draw each SVG file as a PNG file beside it; one of that name is written over. Ask `png_missing` first."""
    resvg = _resvg()
    assert resvg is not None
    paths = []
    for file in files:
        paths.append(file.with_suffix(".png"))
        atomic.write_bytes(paths[-1], resvg.svg_to_bytes(svg_string=file.read_text("utf-8"), zoom=ZOOM))
    return paths


def _resvg() -> ModuleType | None:
    try:
        return importlib.import_module("resvg_py")
    except ImportError:
        return None
