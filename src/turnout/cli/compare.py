"""`turnout compare RUN RUN …`: the figures of several runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.command import Json, command, print_json
from turnout.cli.console import Bars, print_result, say


@command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more runs' folders; the first is what others differ from.")
    ],
    against_last: Annotated[
        bool, typer.Option("--against-last", help="Compare with the last run: saturation along checkpoints.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the comparison as a page: compare.html.")] = None,
    json: Json = False,
) -> None:
    """Set audits side by side, layer by layer: differences with intervals, committees and choices in common."""
    from turnout import report
    from turnout.api.compare import compare as run

    with Bars() as bars:
        result = run(runs, against_last=against_last, out=out, listener=bars).to_dict()
    if json:
        print_json(result)
        return
    print_result(report.comparison_tables(result), report.comparison_sentences(result))
    if out is not None:
        say(f"page: {out}")
