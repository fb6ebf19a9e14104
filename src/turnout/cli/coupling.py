"""`turnout coupling [MODEL]`: how far each router row stands for its expert."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.cli.command import (
    Adapter,
    Device,
    Domains,
    Dtype,
    Json,
    Limit,
    Revision,
    TrustRemoteCode,
    command,
    print_json,
)
from turnout.cli.console import Bars, print_result, say_where
from turnout.coupling.config import MeasureConfig

if TYPE_CHECKING:
    from turnout.coupling.result import CouplingResult


@command(MeasureConfig)
def coupling(
    model: Annotated[
        str | None, typer.Argument(help="Checkpoint folder or hub id. [default: the embedded model]")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Also read real tokens: mmlu, mmlu-dev, worlds, a folder, a JSONL/Parquet file."),
    ] = None,
    domains: Domains = None,
    limit: Limit = None,
    adapter: Adapter = None,
    dtype: Dtype = None,
    device: Device = "auto",
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/MODEL-coupling]")] = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Measure how far router rows stand for their experts, from the weight files alone. Writes a run and its page."""
    from turnout.api.measure_coupling import measure_coupling as run

    name = Path(model).name if model else "embedded"
    folder = out or Path("runs") / (f"{name}-coupling" + (f"-{Path(tasks).stem}" if tasks else ""))
    with Bars() as bars:
        result = run(
            model,
            tasks,
            folder,
            domains=domains,
            limit=limit,
            adapter=adapter,
            dtype=dtype,
            device=device,
            revision=revision,
            trust_remote_code=trust_remote_code,
            listener=bars,
            **settings,
        )
    if json:
        print_json(result.to_dict())
        return
    _show(result, folder)


def _show(result: "CouplingResult", folder: Path) -> None:
    from turnout import report

    print_result(report.coupling_tables(result.to_dict()), report.coupling_sentences(result.to_dict()))
    say_where(folder)
