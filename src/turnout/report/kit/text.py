"""Figures as rows of text for a terminal, whoever prints them."""

from collections.abc import Sequence
from dataclasses import dataclass

_LONGEST = 40


@dataclass(frozen=True)
class Table:
    """A table to print: column names, rows of cells, a title."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def name(text: object, longest: int = _LONGEST) -> str:
    """A name from a run as one short line that cannot steer a terminal."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.{digits}f}"


def against(value: float | None, floor: float | None, interval: Sequence[float] | None = None) -> str:
    """A figure with its interval in brackets and its floor in parentheses, short enough for rows of 80 columns."""
    bounds = "" if interval is None else f" [{' '.join(number(end, 2).removeprefix('0') for end in interval)}]"
    beside = "" if floor is None else f" ({number(floor, 2).removeprefix('0')})"
    return f"{number(value, 2)}{bounds}{beside}"


def experts(indices: Sequence[int], longest: int = 3) -> str:
    """Expert indices, the first `longest` of them and how many more."""
    more = len(indices) - longest
    return ", ".join(str(index) for index in indices[:longest]) + (f" +{more}" if more > 0 else "")
