"""A figure for a paper as SVG text, without a plotting library or a browser: axes, lines, bands, marks, cells.

Vector, black on white, sized for a column, text as text. Plotly's static export needs Chrome; this needs nothing.
"""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 480, 300
FONTS = "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
INK, FAINT, GRAY, BLUE, RED = "#1b2026", "#c9d0d6", "#555555", "#1d5c9e", "#b8410b"
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 26, 42
_VIRIDIS = ("#440154", "#472f7d", "#39568c", "#2a788e", "#1f988b", "#35b779", "#7ad151", "#bddf26", "#fde725")

Point = tuple[float, float]


def viridis(share: float) -> str:
    """The color of a share from 0 to 1: Viridis in nine steps, interpolated."""
    place = min(max(share, 0.0), 1.0) * (len(_VIRIDIS) - 1)
    low = min(int(place), len(_VIRIDIS) - 2)
    part = place - low
    ends = [[int(color[at : at + 2], 16) for at in (1, 3, 5)] for color in _VIRIDIS[low : low + 2]]
    return "#" + "".join(f"{round(a + part * (b - a)):02x}" for a, b in zip(*ends, strict=True))


def ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers between the ends of an axis."""
    size = high - low
    unit = next(10.0**power for power in range(9, -9, -1) if size / 10.0**power >= 1)
    step = next((unit * part for part in (2, 1, 0.5, 0.2) if size / (unit * part) >= 4), unit * 0.1)
    first, last = math.ceil(round(low / step, 6)), math.floor(round(high / step, 6))
    return [round(place * step, 9) for place in range(first, last + 1)]


class Axes:
    """A frame in units of the data; its methods return the SVG of one mark each.

    Args:
        x: the ends of the x axis; the same number twice is widened by 0.5 on both sides.
        y: the ends of the y axis, the lower one first.
        names: labels of the whole numbers along y, from 0; empty for numbers.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], names: Sequence[str] = ()) -> None:
        self._x, self._y, self._names = (x if x[0] != x[1] else (x[0] - 0.5, x[1] + 0.5)), y, names

    def at(self, x: float, y: float) -> Point:
        """A point's place on the sheet, from the left and from the top."""
        (left, right), (bottom, top) = self._x, self._y
        across = _LEFT + (x - left) / (right - left) * (WIDTH - _LEFT - _RIGHT)
        return across, HEIGHT - _BOTTOM - (y - bottom) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM)

    def across(self, units: float) -> float:
        """The width of `units` of x on the sheet."""
        return units / (self._x[1] - self._x[0]) * (WIDTH - _LEFT - _RIGHT)

    def line(
        self, x: Sequence[float], y: Sequence[float | None], color: str, dash: str = "", width: float = 1.3
    ) -> str:
        """A line, interrupted wherever y is None."""
        parts, pen = [], "M"
        for at, value in zip(x, y, strict=True):
            if value is None:
                pen = "M"
                continue
            parts.append("{}{:.2f},{:.2f}".format(pen, *self.at(at, value)))
            pen = "L"
        if not parts:
            return ""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        return f'<path d="{"".join(parts)}" fill="none" stroke="{color}" stroke-width="{width}"{dashed}/>'

    def band(self, x: Sequence[float], intervals: Sequence[Sequence[float] | None]) -> str:
        """The area between the ends of intervals; nothing unless every x has one."""
        ends = [interval for interval in intervals if interval is not None]
        if len(ends) < len(intervals):
            return ""
        edge = [self.at(at, interval[0]) for at, interval in zip(x, ends, strict=True)]
        edge += [self.at(at, interval[1]) for at, interval in reversed(list(zip(x, ends, strict=True)))]
        points = " ".join(f"{a:.2f},{b:.2f}" for a, b in edge)
        return f'<polygon points="{points}" fill="{BLUE}" fill-opacity="0.2"/>'

    def dot(self, x: float, y: float, size: float, fill: str, line: str = "none") -> str:
        """A disc or ring."""
        across, down = self.at(x, y)
        return f'<circle cx="{across:.2f}" cy="{down:.2f}" r="{size:.2f}" fill="{fill}" stroke="{line}"/>'

    def cell(self, x: int, y: int, fill: str) -> str:
        """A cell of a map around a whole number."""
        (left, top), (right, bottom) = self.at(x - 0.5, y - 0.5), self.at(x + 0.5, y + 0.5)
        size = f'width="{right - left + 0.05:.2f}" height="{abs(bottom - top) + 0.05:.2f}"'
        return f'<rect x="{left:.2f}" y="{min(top, bottom):.2f}" {size} fill="{fill}" shape-rendering="crispEdges"/>'

    def text(self, x: float, y: float, words: str, color: str) -> str:
        """A label to the right of a point."""
        across, down = self.at(x, y)
        return f'<text x="{across + 7:.2f}" y="{down - 5:.2f}" fill="{color}">{escape(words)}</text>'

    def document(self, title: str, across: str, up: str, marks: Sequence[str]) -> str:
        """The whole SVG file: `marks`, then frame, ticks and the titles of figure and axes."""
        low, high = HEIGHT - _BOTTOM, _TOP
        frame = f'<path d="M{_LEFT},{high}V{low}H{WIDTH - _RIGHT}" fill="none" stroke="{INK}"/>'
        titles = (
            f'<text x="{_LEFT}" y="16" font-weight="600">{escape(title)}</text>'
            f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>'
            f'<text transform="translate(13,{(low + high) / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
        )
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        )
        style = f'font-family="{FONTS}" font-size="11" fill="{INK}"'
        sheet = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        return f"{head} {style}>{sheet}{''.join(marks)}{frame}{self._tick_labels()}{titles}</svg>\n"

    def _tick_labels(self) -> str:
        parts = []
        for value in ticks(*sorted(self._x)):
            across, _ = self.at(value, self._y[0])
            parts.append(f'<text x="{across:.2f}" y="{HEIGHT - _BOTTOM + 14}" text-anchor="middle">{value:g}</text>')
        step = max(1, len(self._names) // 12)
        named = [(float(row), name) for row, name in enumerate(self._names) if row % step == 0]
        for value, words in named or [(value, f"{value:g}") for value in ticks(*sorted(self._y))]:
            _, down = self.at(self._x[0], value)
            parts.append(f'<text x="{_LEFT - 5}" y="{down + 4:.2f}" text-anchor="end">{escape(words)}</text>')
        return "".join(parts)
