"""Figures for papers as PNG: SVG files drawn by resvg (extra `png`), without a browser or a network."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from turnout.report.kit.svg import FONTS
from turnout.runs import atomic

ZOOM = 3  # pixels a point: 450 dots an inch where a figure is 3.2 inches wide
_PROBE = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20" font-family="{}"><text y="15">{}</text></svg>'


def resvg() -> ModuleType | None:
    """The module resvg_py; None if it is not installed."""
    try:
        return importlib.import_module("resvg_py")
    except ImportError:
        return None


def png_missing() -> str | None:
    """Why PNG files cannot be drawn here and what to install, in one line; None if they can be drawn."""
    module = resvg()
    if module is None:
        return "no PNG files: they need resvg (pip install 'turnout[png]')"
    blank, word = (module.svg_to_bytes(svg_string=_PROBE.format(FONTS, text)) for text in ("", "Layer"))
    # Without a font resvg leaves out all text and raises nothing.
    return f"no PNG files: install one of the fonts {FONTS}" if blank == word else None


def write_png(files: Sequence[Path]) -> list[Path]:
    """Draw each SVG file as a PNG file beside it, replacing one of that name.

    Call it only where `png_missing` is None.
    """
    module = resvg()
    assert module is not None
    paths = []
    for file in files:
        paths.append(file.with_suffix(".png"))
        atomic.write_bytes(paths[-1], module.svg_to_bytes(svg_string=file.read_text("utf-8"), zoom=ZOOM))
    return paths
