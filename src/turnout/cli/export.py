"""`turnout export RUN [TABLE …]`: a run's tables for other programs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.console import say
from turnout.cli.verb import Json, print_json, verb


class Format(StrEnum):
    """What the tables are written as."""

    parquet = "parquet"
    csv = "csv"
    json = "json"


@verb
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    tables: Annotated[list[str] | None, typer.Argument(metavar="[TABLE]...", help="Tables. [default: all]")] = None,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.parquet,
    out: Annotated[Path, typer.Option(help="Folder for the files; none of them may be there already.")] = Path(
        "tables"
    ),
    json: Json = False,
) -> None:
    """Write a run's tidy tables as Parquet, CSV or JSON, with columns.json, which says what each column holds."""
    from turnout.exchange import export as write

    files = write(run, out, form.value, tables or ())
    if json:
        print_json({"run": str(run), "format": form.value, "files": [str(file) for file in files]})
        return
    for file in files:
        say(str(file))
