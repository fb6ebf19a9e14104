"""Figures, names and tables as text, for a terminal and for sentences. An undefined figure is a dash."""

from collections.abc import Sequence
from dataclasses import dataclass

_LONGEST_NAME = 40


@dataclass(frozen=True)
class Table:
    """A table to print: title, column names, and rows of cells as text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def name(text: object, longest: int = _LONGEST_NAME) -> str:
    """A name from a run on one line, without control characters, at most `longest` characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def number(value: float | None, form: str = ".3f") -> str:
    """A figure in a Python number format."""
    return "–" if value is None else f"{value:{form}}"


def against(
    value: float | None, floor: float | None, interval: Sequence[float] | None = None, form: str = ".2f"
) -> str:
    """A figure with its interval in brackets and its floor in parentheses, short: 0.42 [.38 .46] (.10)."""
    bounds = "" if interval is None else f" [{' '.join(number(end, form).removeprefix('0') for end in interval)}]"
    beside = "" if floor is None else f" ({number(floor, form).removeprefix('0')})"
    return f"{number(value, form)}{bounds}{beside}"


def signed(value: float | None, interval: Sequence[float] | None = None) -> str:
    """A difference with its sign and its interval in brackets."""
    if value is None:
        return "–"
    return f"{value:+.3f}" + ("" if interval is None else f" [{interval[0]:+.3f} {interval[1]:+.3f}]")


def percent(share: float | None) -> str:
    """A share as a percentage: whole, or with one decimal below 9.5 %."""
    if share is None:
        return "–"
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"


def counted(number_of: int, thing: str, plural: str | None = None) -> str:
    """A count with its noun: 1 layer, 48 layers, 1,234 questions."""
    return f"{number_of:,} {thing if number_of == 1 else plural or thing + 's'}"


def span(numbers: Sequence[int]) -> str:
    """The least and greatest of some whole numbers: 8, or 4 to 8."""
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"


def experts(indices: Sequence[int], longest: int = 3) -> str:
    """Expert indices: the first `longest`, and how many more there are."""
    more = len(indices) - longest
    return ", ".join(str(index) for index in indices[:longest]) + (f" +{more}" if more > 0 else "")


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the figures that are defined; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
