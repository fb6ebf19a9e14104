"""`turnout train RECIPE.yaml`: next-token training of a MoE, coupled or not."""

from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.console import Bars, say
from turnout.cli.verb import Json, print_json, verb

_ERC = (
    "Couple the model: add the ERC loss, or what stands in for it as a control. Options as NAME=VALUE, separated by "
    "commas: alpha, weight, gradient (both, router, gate), reduction (mean, sum), noise (true, false), pairing (own, "
    "permuted), normalised (true, false), layers (0+2), seed, place (gate, up, "
    "activated, gated, output), term (erc, orthogonality). weight=0 only logs."
)
_NORMS = "Scale routers and gates down to the norms that they had along that run, which was trained with --erc."


@verb
def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe; docs/reference/recipes.md lists its keys.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/NAME-OF-RECIPE]")] = None,
    erc: Annotated[str | None, typer.Option(help=_ERC, metavar="NAME=VALUE,…")] = None,
    match_norms: Annotated[Path | None, typer.Option(help=_NORMS, metavar="RUN")] = None,
    json: Json = False,
) -> None:
    """Train a MoE from a recipe, or go on where a killed training stopped; the checkpoint is plain transformers."""
    from turnout.training import TrainRecipe
    from turnout.training import train as run

    read, coupled = TrainRecipe.load(recipe), {}
    if erc is not None or match_norms is not None:
        from turnout.coupling import CoupleConfig, preparation

        # Noise and permutation follow the recipe's seed, unless the options name one of their own.
        config = None if erc is None else CoupleConfig.parse(f"seed={read.seed},{erc}")
        coupled = vars(preparation(config, match_norms, note=say))
    with Bars() as bars:
        result = run(read, out or Path("runs") / recipe.stem, progress=bars, **coupled)
    if json:
        print_json(result.to_dict())
        return
    say(result.summary())
