"""`turnout vote`: self-consistency, a majority of 1 to 128 sampled answers."""

from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.console import Bars, print_table, say
from turnout.cli.options import Device, Dtype
from turnout.cli.verb import Json, print_json, verb


@verb
def vote(
    model: Annotated[str, typer.Argument(help="A checkpoint's folder or hub id, MoE or dense.")],
    tasks: Annotated[
        str, typer.Option(help="chains-2, chains-1+3, facts-500, gym-NAME, or JSONL with prompt and answer.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/MODEL-vote-TASKS]")] = None,
    samples: Annotated[int | None, typer.Option(help="Answers a problem. [default: 128]", min=1)] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the sampling. [default: 0.6]")] = None,
    problems: Annotated[int | None, typer.Option(help="At most so many. [default: 200]", min=1)] = None,
    most_tokens: Annotated[int | None, typer.Option(help="Longest answer. [default: 256]", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn. [default: 0]")] = None,
    dtype: Dtype = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Sample many answers a problem; show pass@1, pass@n and the majority's accuracy, with intervals."""
    from turnout.api import old as api

    folder = out or Path("runs") / f"{Path(model).name}-vote-{Path(tasks).stem}"
    options = {"samples": samples, "temperature": temperature, "problems": problems, "most_tokens": most_tokens}
    with Bars() as bars:
        found = api.vote(model, tasks, folder, progress=bars, dtype=dtype, device=device, seed=seed, **options)
    if found.already_complete:
        say(f"{folder}: this run is complete; nothing is computed again")
    if json:
        print_json(found.to_dict())
        return
    rows = [
        [str(row["samples"]), *(f"{row[n]:.3f} [{row[f'{n}_low']:.3f}, {row[f'{n}_high']:.3f}]" for n in _SHOWN)]
        for row in found.frame().iter_rows(named=True)
    ]
    print_table(["samples", "pass@samples", "majority"], rows, f"{tasks}: 95 % intervals over problems")
    say(f"run: {folder}")


_SHOWN = ("pass", "majority")
