"""Where people read: messages, tables and progress bars, all on stderr but the tables that a verb was asked for."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console
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

OUT = Console(highlight=False, markup=False, emoji=False)
ERR = Console(stderr=True, highlight=False, markup=False, emoji=False)

_PATIENCE = 2.0  # seconds before a bar is worth showing


class _Rate(ProgressColumn):
    """How fast: units a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {task.fields['unit']}/s" if task.speed else "")


class Bars:
    """A `Progress` that draws a bar for work of over two seconds, and nothing where stderr is no terminal.

    Use as a context manager; call it as `turnout.progress.Progress` says.
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
        self._started: dict[str, float] = {}
        self._shown: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, what: str, done: int, total: int, unit: str) -> None:
        """Draw `done` of `total`."""
        started = self._started.setdefault(what, time.monotonic())
        if what not in self._shown:
            if time.monotonic() - started < _PATIENCE:
                return
            self._shown[what] = self._bars.add_task(what, total=total, unit=unit)
        self._bars.update(self._shown[what], completed=done, total=total)


def say(line: str) -> None:
    """One line for a person, on stderr."""
    ERR.print(line, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table on stdout; the first column stands left, numbers right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    OUT.print(table)
