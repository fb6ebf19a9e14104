"""`turnout grpo`: reinforcement learning for right final answers, through TRL."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.console import Bars, say
from turnout.cli.options import Device
from turnout.cli.verb import Json, print_json, verb


class Routers(StrEnum):
    """Whether routers learn."""

    trained = "trained"
    frozen = "frozen"


@verb
def grpo(
    model: Annotated[str, typer.Argument(help="A checkpoint's folder or hub id, MoE or dense.")],
    tasks: Annotated[
        str, typer.Option(help="chains-2, chains-1+3, facts-500, gym-NAME, or JSONL with prompt and answer.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/MODEL-grpo-TASKS]")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps. [default: 100]", min=1)] = None,
    generations: Annotated[int | None, typer.Option(help="Answers a problem. [default: 5]", min=2)] = None,
    problems_per_step: Annotated[int | None, typer.Option(help="Problems a step. [default: 16]", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Constant. [default: 5e-6]")] = None,
    kl: Annotated[float | None, typer.Option(help="Weight of the divergence. [default: 0.001]")] = None,
    clip: Annotated[float | None, typer.Option(help="Of the ratio. [default: 0.2]")] = None,
    most_tokens: Annotated[int | None, typer.Option(help="Longest answer. [default: 256]", min=1)] = None,
    routers: Annotated[Routers, typer.Option(help="Whether routers learn.")] = Routers.trained,
    asked: Annotated[int | None, typer.Option(help="Test problems before and after. [default: 200]", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn. [default: 0]")] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Train a model for the reward of right final answers (GRPO), and say what it gained, with its interval."""
    from turnout.api import old as api

    folder = out or Path("runs") / f"{Path(model).name}-grpo-{Path(tasks).stem}"
    options = {
        "steps": steps,
        "generations": generations,
        "problems_per_step": problems_per_step,
        "learning_rate": learning_rate,
        "kl": kl,
        "clip": clip,
        "most_tokens": most_tokens,
        "routers": routers.value,
        "asked": asked,
        "seed": seed,
    }
    with Bars() as bars:
        found = api.grpo(model, tasks, folder, progress=bars, device=device, **options)
    if found.already_complete:
        say(f"{folder}: this run is complete; nothing is computed again")
    if json:
        print_json(found.to_dict())
        return
    low, high = found.accuracy["interval"]
    print(
        f"accuracy {found.accuracy['before']:.3f} before, {found.accuracy['after']:.3f} after: "
        f"{found.accuracy['difference']:+.3f} [{low:+.3f}, {high:+.3f}] over {found.accuracy['problems']} problems"
    )
    say(f"model: {found.path / 'model'}")
