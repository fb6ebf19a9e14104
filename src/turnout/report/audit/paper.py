"""Figures for papers: the data of `figures` as SVG, one file each, without a plotting library or a browser.

Plotly's static export needs Chrome; these need nothing. Vector, black on white, sized for a column, text as text; `png`
draws them as pixels.
"""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from turnout.report.audit import figures
from turnout.report.audit.evidence import MEASURES
from turnout.report.audit.stored import StoredRun
from turnout.report.audit.words import NAMES
from turnout.runs import atomic

WIDTH, HEIGHT = 480, 300
FONTS = "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 26, 42
_INK, _FAINT, _BLUE, _RED = "#1b2026", "#c9d0d6", "#1d5c9e", "#b8410b"
_VIRIDIS = ("#440154", "#472f7d", "#39568c", "#2a788e", "#1f988b", "#35b779", "#7ad151", "#bddf26", "#fde725")

Point = tuple[float, float]


def write_figures(run: StoredRun, folder: str | Path) -> list[Path]:
    """Write the run's figures into `folder` as SVG: measures along depth, map, one layer's rank plane and Lorenz curve.

    The layer is the one where the page opens, that of greatest coverage. Files of the same name are written over.
    """
    folder = Path(folder)
    atomic.make_folder(folder)
    layer = run.layer_numbers[figures.start(run.layers)["row"]]
    drawn = {f"depth-{m}": depth_svg(run, m) for m in MEASURES if run.audit["overall"][m]["mean"] is not None}
    drawn |= {"map": map_svg(run), f"plane-{layer}": plane_svg(run, layer), f"lorenz-{layer}": lorenz_svg(run, layer)}
    paths = []
    for name, svg in drawn.items():
        paths.append(folder / f"{name}.svg")
        atomic.write_bytes(paths[-1], svg.encode("utf-8"))
    return paths


def depth_svg(run: StoredRun, measure: str) -> str:
    """One measure along depth with its band of 95 % intervals, floor (dashed), rotated router (dotted), ceiling."""
    found = figures.depth_profile(run.layers, measure)
    known = [v for name in ("value", "floor", "rotated", "ceiling") for v in found[name] if v is not None]
    known += [end for interval in found["interval"] if interval for end in interval]
    axes = _Axes((found["layer"][0], found["layer"][-1]), (0, max(known) if measure == "influence_ratio" else 1))
    lines = [axes.band(found["layer"], found["interval"])]
    for name, ink, dash in (("floor", "#555555", "6 4"), ("rotated", _RED, "2 3"), ("ceiling", "#555555", "8 3 2 3")):
        lines.append(axes.line(found["layer"], found[name], ink, dash))
    lines.append(axes.line(found["layer"], found["value"], _BLUE, "", 2))
    lines += [axes.dot(x, y, 2.2, _BLUE) for x, y in zip(found["layer"], found["value"], strict=True) if y is not None]
    return axes.document(NAMES[measure], "layer", NAMES[measure], lines)


def plane_svg(run: StoredRun, layer: int) -> str:
    """Mean and variance of rank of one layer's experts; larger where more often candidate in resamples."""
    found = figures.rank_plane(run, layer)
    top_k = run.layers[run.layer_numbers.index(layer)]["top_k"]
    points = [
        (mean, variance, role, 0.5 if stable is None else stable, expert)
        for mean, variance, role, stable, expert in zip(
            found["mean_rank"], found["rank_variance"], found["role"], found["stability"], found["expert"], strict=True
        )
        if mean is not None
    ]
    axes = _Axes((0.5, top_k + 1.5), (0, max([variance for _, variance, *_ in points], default=0) or 1))
    marks = []
    for mean, variance, role, stable, expert in points:
        fill = {"member": _RED, "candidate": "#ffffff", "other": _FAINT}[role]
        line = {"member": _RED, "candidate": _BLUE, "other": "#8a949e"}[role]
        marks.append(axes.dot(mean, variance, (3 if role == "other" else 5) * (0.6 + 0.8 * stable), fill, line))
        if role == "member":
            marks.append(axes.text(mean, variance, str(expert), _RED))
    return axes.document(f"Layer {layer}", "mean rank over domains", "variance of rank", marks)


def lorenz_svg(run: StoredRun, layer: int) -> str:
    """Lorenz curve of one layer before those of the others; the diagonal is equal use."""
    axes = _Axes((0, 1), (0, 1))
    others = [figures.lorenz_curve(run, other) for other in run.layer_numbers if other != layer]
    lines = [axes.line(curve["experts"], curve["share"], _FAINT, "", 0.7) for curve in others]
    chosen = figures.lorenz_curve(run, layer)
    lines += [axes.line([0, 1], [0, 1], "#555555", "6 4"), axes.line(chosen["experts"], chosen["share"], _BLUE, "", 2)]
    return axes.document(f"Layer {layer}", "share of experts, least used first", "share of contribution", lines)


def map_svg(run: StoredRun) -> str:
    """Contribution of every expert in every layer, mean over domains: committee dots, candidates rings."""
    found = figures.heat_map(run, run.audit["kind"])
    rows, columns = len(found["layers"]), len(found["experts"])
    most = max((value for row in found["values"] for value in row if value is not None), default=0) or 1
    axes = _Axes((-0.5, columns - 0.5), (rows - 0.5, -0.5), names=[str(number) for number in found["layers"]])
    cells = [
        axes.cell(expert, row, _shade(value / most))
        for row, values in enumerate(found["values"])
        for expert, value in enumerate(values)
        if value is not None
    ]
    size = max(1.0, min(4.0, 0.35 * axes.across(1)))
    cells += [axes.dot(expert, row, size, "none", "#ffffff") for row, expert in found["candidates"]]
    cells += [axes.dot(expert, row, size, "#ffffff", _INK) for row, expert in found["members"]]
    title = f"Contribution ({run.audit['kind']}), 0 to {most:.3g}"
    return axes.document(title, "expert", "layer", cells)


def _shade(share: float) -> str:
    """Viridis in nine steps between which colours are mixed."""
    place = min(max(share, 0.0), 1.0) * (len(_VIRIDIS) - 1)
    low, part = min(int(place), len(_VIRIDIS) - 2), place - min(int(place), len(_VIRIDIS) - 2)
    ends = [[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in _VIRIDIS[low : low + 2]]
    return "#" + "".join(f"{round(a + part * (b - a)):02x}" for a, b in zip(*ends, strict=True))


class _Axes:
    """A frame in data's units: `x` and `y` the ends of its axes, `names` labels of whole numbers along y."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], names: Sequence[str] = ()) -> None:
        self._x, self._y, self._names = (x if x[0] != x[1] else (x[0] - 0.5, x[1] + 0.5)), y, names

    def at(self, x: float, y: float) -> Point:
        """Where a point lies on the sheet."""
        (left, right), (bottom, top) = self._x, self._y
        across = _LEFT + (x - left) / (right - left) * (WIDTH - _LEFT - _RIGHT)
        return across, HEIGHT - _BOTTOM - (y - bottom) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM)

    def across(self, units: float) -> float:
        """How wide so many units of x are."""
        return units / (self._x[1] - self._x[0]) * (WIDTH - _LEFT - _RIGHT)

    def line(self, x: Sequence[float], y: Sequence[float | None], ink: str, dash: str = "", width: float = 1.3) -> str:
        """A line with a gap wherever y is None."""
        parts, pen = [], "M"
        for at, value in zip(x, y, strict=True):
            if value is None:
                pen = "M"
                continue
            parts.append("{}{:.2f},{:.2f}".format(pen, *self.at(at, value)))
            pen = "L"
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        return (
            f'<path d="{"".join(parts)}" fill="none" stroke="{ink}" stroke-width="{width}"{dashed}/>' if parts else ""
        )

    def band(self, x: Sequence[float], intervals: Sequence[Sequence[float] | None]) -> str:
        """The area between the ends of intervals, where every layer has one."""
        if not all(intervals):
            return ""
        ends = [of for of in intervals if of is not None]
        edge = [self.at(at, of[0]) for at, of in zip(x, ends, strict=True)]
        edge += [self.at(at, of[1]) for at, of in reversed(list(zip(x, ends, strict=True)))]
        points = " ".join(f"{a:.2f},{b:.2f}" for a, b in edge)
        return f'<polygon points="{points}" fill="{_BLUE}" fill-opacity="0.2"/>'

    def dot(self, x: float, y: float, size: float, fill: str, line: str = "none") -> str:
        """A disc or ring."""
        across, down = self.at(x, y)
        return f'<circle cx="{across:.2f}" cy="{down:.2f}" r="{size:.2f}" fill="{fill}" stroke="{line}"/>'

    def cell(self, x: int, y: int, fill: str) -> str:
        """A cell of a map around a whole number."""
        (left, top), (right, bottom) = self.at(x - 0.5, y - 0.5), self.at(x + 0.5, y + 0.5)
        size = f'width="{right - left + 0.05:.2f}" height="{abs(bottom - top) + 0.05:.2f}"'
        return f'<rect x="{left:.2f}" y="{min(top, bottom):.2f}" {size} fill="{fill}" shape-rendering="crispEdges"/>'

    def text(self, x: float, y: float, words: str, ink: str) -> str:
        """Words beside a point."""
        across, down = self.at(x, y)
        return f'<text x="{across + 7:.2f}" y="{down - 5:.2f}" fill="{ink}">{escape(words)}</text>'

    def document(self, title: str, across: str, up: str, marks: Sequence[str]) -> str:
        """The whole sheet: frame, ticks and titles around `marks`."""
        low, high = HEIGHT - _BOTTOM, _TOP
        frame = f'<path d="M{_LEFT},{high}V{low}H{WIDTH - _RIGHT}" fill="none" stroke="{_INK}"/>'
        titles = (
            f'<text x="{_LEFT}" y="16" font-weight="600">{escape(title)}</text>'
            f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>'
            f'<text transform="translate(13,{(low + high) / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
        )
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        )
        style = f'font-family="{FONTS}" font-size="11" fill="{_INK}"'
        sheet = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        return f"{head} {style}>{sheet}{''.join(marks)}{frame}{self._ticks()}{titles}</svg>\n"

    def _ticks(self) -> str:
        parts: list[Any] = []
        for value in _nice(*sorted(self._x)):
            across, _ = self.at(value, self._y[0])
            parts.append(f'<text x="{across:.2f}" y="{HEIGHT - _BOTTOM + 14}" text-anchor="middle">{value:g}</text>')
        step = max(1, len(self._names) // 12)
        named = [(float(row), name) for row, name in enumerate(self._names) if row % step == 0]
        for value, words in named or [(value, f"{value:g}") for value in _nice(*sorted(self._y))]:
            _, down = self.at(self._x[0], value)
            parts.append(f'<text x="{_LEFT - 5}" y="{down + 4:.2f}" text-anchor="end">{escape(words)}</text>')
        return "".join(parts)


def _nice(low: float, high: float) -> list[float]:
    """Round numbers between the ends, four to nine of them."""
    size = high - low
    unit = next(10.0**power for power in range(9, -9, -1) if size / 10.0**power >= 1)
    step = next((unit * part for part in (2, 1, 0.5, 0.2) if size / (unit * part) >= 4), unit * 0.1)
    first, last = math.ceil(round(low / step, 6)), math.floor(round(high / step, 6))
    return [round(place * step, 9) for place in range(first, last + 1)]
