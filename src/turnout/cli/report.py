"""`turnout report RUN`: draw a stored run again as one self-contained page."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.console import say
from turnout.cli.verb import Json, print_json, verb


@verb
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    json: Json = False,
) -> None:
    """Write a run's report.html from its stored tables; needs no model."""
    from turnout.report import write_report

    page = write_report(run)
    if json:
        print_json({"run": str(run), "report": str(page), "bytes": page.stat().st_size})
    else:
        say(f"report: {page}")
    if open_page:
        webbrowser.open(page.resolve().as_uri())
