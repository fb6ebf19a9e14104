"""`turnout export RUN [TABLE …]`: a run's tables for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.command import Json, command, print_json
from turnout.cli.console import say
from turnout.exchange.exporting import Format


@command()
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    tables: Annotated[list[str] | None, typer.Argument(metavar="[TABLE]...", help="Tables. [default: all]")] = None,
    form: Annotated[Format, typer.Option("--format", help="Format of the files.")] = "parquet",
    out: Annotated[Path, typer.Option(help="Folder for the files; none of them may be there already.")] = Path(
        "tables"
    ),
    json: Json = False,
) -> None:
    """Write a run's tidy tables as Parquet, CSV or JSON, with columns.json, which describes each column."""
    from turnout.api.export import export as write

    files = write(run, out, form, tables or ())
    if json:
        print_json({"run": str(run), "format": form, "files": [str(file) for file in files]})
        return
    for file in files:
        say(str(file))
