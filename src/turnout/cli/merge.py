"""`turnout merge BASE ADAPTER OUT`: a checkpoint with trained routers, which transformers loads by itself."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.console import say
from turnout.cli.options import TrustRemoteCode
from turnout.cli.verb import Json, print_json, verb


class RouterDtype(StrEnum):
    """Dtype of the routers in the files."""

    checkpoint = "checkpoint"
    float32 = "float32"


@verb
def merge(
    base: Annotated[str, typer.Argument(help="The checkpoint's folder or hub id that the adapter was trained on.")],
    adapter: Annotated[Path, typer.Argument(help="A router adapter's folder, or the run of turnout align.")],
    out: Annotated[Path, typer.Argument(help="The new checkpoint's folder.")],
    dtype: Annotated[
        RouterDtype, typer.Option(help="Of the routers: the base's own, or float32.")
    ] = RouterDtype.checkpoint,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    trust_remote_code: TrustRemoteCode = False,
    json: Json = False,
) -> None:
    """Write BASE with the adapter's routers as an ordinary checkpoint; every other tensor keeps its bytes."""
    from turnout.aligning import merge as run

    path = run(base, adapter, out, dtype.value, revision=revision, trust_remote_code=trust_remote_code)
    if json:
        print_json({"path": str(path)})
        return
    say(f"checkpoint: {path}")
