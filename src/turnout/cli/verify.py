"""`turnout verify RUN`: whether every file of a run is what was written."""

from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.command import Json, command, print_json
from turnout.cli.console import say


@command()
def verify(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    json: Json = False,
) -> None:
    """Check a run's shards, tables and manifest against their digests. Exit status 1 if anything is wrong."""
    from turnout.api.verify import verify as check
    from turnout.runs import not_covered

    problems, left_out = [str(problem) for problem in check(run)], not_covered(run)
    if json:
        print_json({"run": str(run), "sound": not problems, "problems": problems, "not_covered": left_out})
    else:
        for problem in problems:
            say(problem)
        for name, why in left_out.items():
            say(f"{name} is not covered: {why}")
        say(f"{run}: {f'{len(problems)} problem(s)' if problems else 'sound'}")
    if problems:
        raise typer.Exit(1)
