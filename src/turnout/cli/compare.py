"""`turnout compare RUN RUN …`: the figures of several runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.console import print_table
from turnout.cli.verb import Json, print_json, verb
from turnout.errors import RunError


@verb
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more runs' folders; the first is what others differ from.")
    ],
    json: Json = False,
) -> None:
    """Show the figures of two or more audits side by side, layer by layer."""
    from turnout import report

    if len(runs) < 2:
        raise RunError("compare", expected="two or more runs", came=f"{len(runs)}")
    result = report.compare(runs)
    if json:
        print_json(result)
        return
    for table in report.comparison_tables(result):
        print_table(table.columns, table.rows, table.title)
        print()
