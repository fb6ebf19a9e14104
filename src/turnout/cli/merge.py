"""`turnout merge BASE ADAPTER OUT`: a checkpoint with trained routers, which transformers loads by itself."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from turnout.cli.command import Json, Revision, TrustRemoteCode, command, print_json
from turnout.cli.console import Bars, say


@command()
def merge(
    base: Annotated[str, typer.Argument(help="Folder or hub id of the checkpoint on which the adapter was trained.")],
    adapter: Annotated[Path, typer.Argument(help="A router adapter's folder, or the run of turnout align.")],
    out: Annotated[Path, typer.Argument(help="The new checkpoint's folder.")],
    dtype: Annotated[
        Literal["checkpoint", "float32"], typer.Option(help="Dtype of the routers: the base's own, or float32.")
    ] = "checkpoint",
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    json: Json = False,
) -> None:
    """Write BASE with the adapter's routers as an ordinary checkpoint; every other tensor keeps its bytes."""
    from turnout.api.merge import merge as run

    with Bars() as bars:
        path = run(base, adapter, out, dtype, revision=revision, trust_remote_code=trust_remote_code, listener=bars)
    if json:
        print_json({"path": str(path)})
        return
    say(f"checkpoint: {path}")
