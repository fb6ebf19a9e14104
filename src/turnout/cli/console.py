"""Terminal output: result tables on stdout; messages and progress bars on stderr."""

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from turnout.listener import Listener

if TYPE_CHECKING:
    from turnout import report

_WIDE_ENOUGH = 10_000  # columns
OUT = Console(highlight=False, markup=False, emoji=False)
ERR = Console(stderr=True, highlight=False, markup=False, emoji=False)

_PATIENCE = 2.0  # seconds before a bar is worth showing


class _Rate(ProgressColumn):
    """How fast: units a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {task.fields['unit']}/s" if task.speed else "")


class Bars(Listener):
    """Listener of a command: a bar for work of over two seconds, where stderr is a terminal; notes as lines on stderr.

    Use as a context manager.
    """

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}"),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=ERR,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._waiting: list[str] = []
        self._started: dict[str, float] = {}
        self._shown: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bars.stop()
        if kind is None:
            self._print_waiting()

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Draw `done` of `total`."""
        started = self._started.setdefault(what, time.monotonic())
        if what not in self._shown:
            if time.monotonic() - started < _PATIENCE:
                return
            self._shown[what] = self._bars.add_task(what, total=total, unit=unit)
        self._bars.update(self._shown[what], completed=done, total=total)

    def note(self, line: str) -> None:
        """Print the line on stderr."""
        say(line)

    def info(self, line: str) -> None:
        """Print the line on stderr: at once on a terminal, else at the end, so that an error stays one line."""
        self._waiting.append(line)
        if sys.stderr.isatty():
            self._print_waiting()

    def _print_waiting(self) -> None:
        for line in self._waiting:
            say(line)
        self._waiting.clear()


def say(line: str) -> None:
    """Print one line on stderr, without control characters: a path or a name may contain some."""
    ERR.print(printable(line), soft_wrap=True)


def printable(text: str) -> str:
    """The text with each control character escaped; tabs and line breaks are kept."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table on stdout; the first column stands left, numbers right."""
    table = Table(title=title and printable(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(printable, row))
    if OUT.is_terminal:
        OUT.print(table)
        return
    before = OUT.width
    OUT.width = max(before, Measurement.get(OUT, OUT.options.update(width=_WIDE_ENOUGH), table).maximum)
    OUT.print(table)  # a pipe has no width: nothing is cut
    OUT.width = before


def print_result(tables: "Iterable[report.Table]", sentences: Iterable[str] = ()) -> None:
    """Print a result on stdout: its tables, then its sentences."""
    for table in tables:
        print_table(table.columns, table.rows, table.title)
        print()
    for line in sentences:
        OUT.print(printable(line), soft_wrap=True)


def say_where(folder: Path) -> None:
    """Print the paths of a run and its page on stderr."""
    say(f"run: {folder}")
    say(f"page: {folder / 'report.html'}")
