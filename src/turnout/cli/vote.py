"""`turnout vote`: self-consistency, a majority of 1 to 128 sampled answers."""

from pathlib import Path
from typing import Annotated, Any

import typer

from turnout.cli.command import Adapter, Device, Dtype, Json, TrustRemoteCode, command, print_json
from turnout.cli.console import Bars, print_table, say
from turnout.reasoning.vote.config import VoteConfig


@command(VoteConfig)
def vote(
    model: Annotated[
        str | None, typer.Argument(help="Checkpoint folder or hub id, MoE or dense. [default: the embedded model]")
    ] = None,
    *,
    tasks: Annotated[
        str, typer.Option(help="chains-2, chains-1+3, facts-500, gym-NAME, or JSONL with prompt and answer.")
    ],
    adapter: Adapter = None,
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/MODEL-vote-TASKS]")] = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Sample many answers to each problem; show pass@n and the majority's accuracy, with intervals."""
    from turnout.api.vote import vote as run

    folder = out or Path("runs") / f"{Path(model or 'embedded').name}-vote-{Path(tasks).stem}"
    with Bars() as bars:
        result = run(
            model,
            tasks,
            folder,
            adapter=adapter,
            dtype=dtype,
            device=device,
            trust_remote_code=trust_remote_code,
            listener=bars,
            **settings,
        )
    if json:
        print_json(result.to_dict())
        return
    rows = [
        [str(row["samples"]), *(_with_interval(row, name) for name in ("pass", "majority"))]
        for row in result.frame().iter_rows(named=True)
    ]
    print_table(["samples", "pass@samples", "majority"], rows, f"{tasks}: 95 % intervals over problems")
    say(f"run: {folder}")


def _with_interval(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"
