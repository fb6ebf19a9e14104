"""`turnout train RECIPE.yaml`: next-token training of a MoE, coupled or not."""

from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.command import Json, command, print_json
from turnout.cli.console import Bars, say

_ERC = (
    "Couple the model: add the ERC loss, or the term of a control. Settings as NAME=VALUE, separated by commas: "
    "alpha, weight, gradient (both, router, gate), reduction (mean, sum), noise (true, false), pairing (own, "
    "permuted), normalized (true, false), layers (0+2), seed, place (gate, up, "
    "activated, gated, output), term (erc, orthogonality). weight=0 only logs."
)
_NORMS = "Scale routers and gates down to the norms that they had in that run, which was trained with --erc."


@command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe; docs/reference/recipes.md lists its keys.")],
    erc: Annotated[str | None, typer.Option(help=_ERC, metavar="NAME=VALUE,…")] = None,
    match_norms: Annotated[Path | None, typer.Option(help=_NORMS, metavar="RUN")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/NAME-OF-RECIPE]")] = None,
    json: Json = False,
) -> None:
    """Train a MoE from a recipe, or resume a killed training; the checkpoint is a plain transformers one."""
    from turnout.api.train import train as run

    with Bars() as bars:
        folder = out or Path("runs") / recipe.stem
        result = run(recipe, folder, erc=erc, match_norms=match_norms, listener=bars)
    if json:
        print_json(result.to_dict())
        return
    say(result.summary())
