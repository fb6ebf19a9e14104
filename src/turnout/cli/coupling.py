"""`turnout coupling [MODEL]`: how far each router row stands for its expert."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.console import Bars, print_result, say, say_where
from turnout.cli.options import Device, Dtype, TokenBudget, TrustRemoteCode
from turnout.cli.verb import Json, print_json, verb

if TYPE_CHECKING:
    from turnout.coupling import CouplingResult


class Scope(StrEnum):
    """Which tokens of a question are looked at."""

    all = "all"
    last = "last"


@verb
def coupling(
    model: Annotated[
        str | None, typer.Argument(help="Checkpoint folder or hub id. [default: the embedded model]")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Also look at real tokens: mmlu, mmlu-dev, worlds, a folder, a JSONL/Parquet file."),
    ] = None,
    domains: Annotated[
        str | None, typer.Option(help="A domain map, where the tasks' subjects are not in mmlu-9; subject fits all.")
    ] = None,
    scope: Annotated[Scope, typer.Option(help="Every token of a question, or its last.")] = Scope.all,
    limit: Annotated[int | None, typer.Option(help="At most this many questions of a subject.", min=1)] = None,
    alphas: Annotated[str, typer.Option(help="The α at which the ERC loss is taken.")] = "1,2,3,4,5",
    seed: Annotated[int, typer.Option(help="Of random pairings and resamples.", min=0)] = 0,
    token_budget: TokenBudget = None,
    dtype: Dtype = None,
    device: Device = None,
    trust_remote_code: TrustRemoteCode = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/MODEL-coupling]")] = None,
    json: Json = False,
) -> None:
    """Measure how routers and experts answer to each other, from the weight files alone. Writes a run and its page."""
    from turnout.api import old as api

    name = Path(model).name if model else "embedded"
    folder = out or Path("runs") / (f"{name}-coupling" + (f"-{Path(tasks).stem}" if tasks else ""))
    with Bars() as bars:
        result = api.measure_coupling(
            model,
            tasks,
            folder,
            domains=domains,
            scope=scope.value,
            limit=limit,
            alphas=_numbers(alphas),
            seed=seed,
            token_budget=token_budget,
            dtype=dtype,
            device=device,
            trust_remote_code=trust_remote_code,
            progress=bars,
            note=say,
        )
    if json:
        print_json(result.to_dict())
        return
    _show(result, folder)


def _numbers(text: str) -> tuple[float, ...]:
    """1,2.5 as numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"expected numbers such as 1,2,3, got {text}") from error


def _show(result: "CouplingResult", folder: Path) -> None:
    from turnout import report

    print_result(report.coupling_tables(result.to_dict()), report.coupling_sentences(result.to_dict()))
    say_where(folder)
