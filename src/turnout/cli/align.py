"""`turnout align MODEL --tasks …`: train the routers of the last layers, or reroute each evaluation question."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.aligning.config import AlignConfig, ManifoldConfig, ReadingConfig, ReroutingConfig, ScheduleConfig
from turnout.cli.command import Adapter, Device, Domains, Dtype, Json, Out, TrustRemoteCode, command, print_json
from turnout.cli.console import Bars, print_result, say_where

if TYPE_CHECKING:
    from turnout.aligning.result import Alignment


@command(AlignConfig, ReadingConfig, ManifoldConfig, ScheduleConfig, ReroutingConfig)
def align(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or hub id.")],
    tasks: Annotated[str, typer.Option(help="Training questions with answers: a name, folder or file.")],
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="Questions to answer before and after; none of them is trained on.")
    ] = None,
    domains: Domains = None,
    limit: Annotated[int | None, typer.Option(help="At most this many training questions of a subject.", min=1)] = None,
    adapter: Adapter = None,
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    out: Out = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Train the routers of the last layers, by RoMA or a baseline. Writes a run with the adapter and its page."""
    from turnout.api.align import align as run

    method = settings.get("method", AlignConfig().method)
    folder = out or Path("runs") / f"{Path(model).name}-{Path(tasks).stem}-{method}"
    with Bars() as bars:
        result = run(
            model,
            tasks,
            evaluation,
            folder,
            domains=domains,
            limit=limit,
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
    _show(result, folder)


def _show(result: "Alignment", folder: Path) -> None:
    from turnout import report

    print_result(report.alignment_tables(result.to_dict()), report.alignment_sentences(result.to_dict()))
    say_where(folder)
