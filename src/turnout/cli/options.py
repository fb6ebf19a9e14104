"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

TokenBudget = Annotated[
    int | None, typer.Option(help="Most tokens of a batch, padding included. [default: 1024]", min=1)
]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, … [default: the checkpoint's]")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, auto (spread). [default: cpu]")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run the checkpoint's own code.")]
Adapter = Annotated[
    Path | None, typer.Option(help="Put trained routers into the model: a run of turnout align, or its adapter.")
]
Out = Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/MODEL-TASKS]")]
