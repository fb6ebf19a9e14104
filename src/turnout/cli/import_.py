"""`turnout import FILE`: routing recorded by another engine, as a run."""

from pathlib import Path
from typing import Annotated, Any

import typer

from turnout.cli.command import Domains, Json, command, print_json
from turnout.cli.console import Bars, say
from turnout.exchange.config import ImportConfig


@command(ImportConfig, leave_out=("experts",))
def import_(
    file: Annotated[
        Path, typer.Argument(help="npy, npz, Parquet or JSONL of routed-expert ids, [tokens, layers, K] a sample.")
    ],
    experts: Annotated[int, typer.Option(help="Routed experts of a layer, E.", min=1)],
    samples: Annotated[
        Path | None,
        typer.Option(help="JSONL or Parquet, a row a sample: id, subject, domain, tokens, answer, prompt_tokens."),
    ] = None,
    domains: Domains = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/NAME-OF-FILE]")] = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Read the chosen experts that vLLM or SGLang returned into a run; then `turnout audit RUN --kind frequency`."""
    from turnout.api.import_routed import import_routed
    from turnout.exchange.importing import NOT_COMPUTED

    folder = out or Path("runs") / file.stem
    with Bars() as bars:
        imported = import_routed(
            file, folder, experts=experts, samples=samples, domains=domains, listener=bars, **settings
        )
    if json:
        print_json(imported.to_dict())
        return
    say(
        f"{imported.samples} samples, {imported.tokens} tokens, {len(imported.layers)} layers, "
        f"{imported.top_k} of {experts} experts a token"
    )
    say(f"not computable from it: {', '.join(NOT_COMPUTED)} (only the chosen experts were recorded)")
    say(f"run: {folder}; measure it with: turnout audit {folder} --kind frequency --out …")
