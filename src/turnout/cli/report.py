"""`turnout report RUN`: draw a stored run again as one self-contained page, or as figures for a paper."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.command import Json, command, print_json
from turnout.cli.console import say


@command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    masking: Annotated[
        list[Path] | None, typer.Option(help="A masking run of this audit. [default: those beside it]")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Also write the figures as SVG and PNG files into this folder.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    json: Json = False,
) -> None:
    """Write a run's report.html from its stored tables; needs no model."""
    from turnout.api.write_report import write_report

    page = write_report(run, masking or None)
    files = [] if figures is None else _figures(run, figures)
    if json:
        listed = [str(file) for file in files]
        print_json({"run": str(run), "report": str(page), "bytes": page.stat().st_size, "figures": listed})
    else:
        for line in (f"report: {page}", *(f"figure: {file}" for file in files)):
            say(line)
    if open_page:
        webbrowser.open(page.resolve().as_uri())


def _figures(run: Path, folder: Path) -> list[Path]:
    """Every figure as SVG, and as PNG where that can be drawn; one line where it cannot."""
    from turnout import report

    files = report.write_figures(report.read_run(run), folder)
    missing = report.png_missing()
    if missing is None:
        return [*files, *report.write_png(files)]
    say(missing)
    return files
