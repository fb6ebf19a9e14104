"""`turnout audit [MODEL]`: which experts do the routing, layer by layer."""

from pathlib import Path
from typing import Annotated, Any

import typer

from turnout.auditing.config import AuditConfig
from turnout.cli.command import Adapter, Device, Domains, Dtype, Json, Limit, Out, TrustRemoteCode, command, print_json
from turnout.cli.console import Bars, print_result, say_where


@command(AuditConfig)
def audit(
    model: Annotated[
        str | None,
        typer.Argument(help="Checkpoint folder, hub id, or a run to measure again. [default: the embedded model]"),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="mmlu, mmlu-dev, worlds, a folder, a JSONL/Parquet file. [default: mmlu-dev]")
    ] = None,
    domains: Domains = None,
    limit: Limit = None,
    adapter: Adapter = None,
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    out: Out = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Read a model's routing on real questions: committees, coverage, Gini, Jaccard. Writes a run and its page."""
    from turnout import report
    from turnout.api.audit import audit as run

    folder = out or Path("runs") / f"{Path(model).name if model else 'embedded'}-{Path(tasks or 'mmlu-dev').stem}"
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
            trust_remote_code=trust_remote_code,
            listener=bars,
            **settings,
        )
    if json:
        print_json(result.to_dict())
        return
    print_result(report.summary(result.to_dict()), report.claim_lines(result.to_dict()))
    say_where(folder)
