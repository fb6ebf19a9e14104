"""`turnout train RECIPE.yaml`: next-token training of a MoE."""

from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.console import Bars, say
from turnout.cli.verb import Json, print_json, verb


@verb
def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe; docs/training.md lists its keys.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/NAME-OF-RECIPE]")] = None,
    json: Json = False,
) -> None:
    """Train a MoE from a recipe, or go on where a killed training stopped; the checkpoint is plain transformers."""
    from turnout.training import TrainRecipe
    from turnout.training import train as run

    folder = out or Path("runs") / recipe.stem
    with Bars() as bars:
        result = run(TrainRecipe.load(recipe), folder, progress=bars)
    if json:
        print_json(result.to_dict())
        return
    say(result.summary())
