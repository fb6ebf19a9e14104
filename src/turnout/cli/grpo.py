"""`turnout grpo`: reinforcement learning for right final answers, through TRL."""

from pathlib import Path
from typing import Annotated, Any

import typer

from turnout.cli.command import Adapter, Device, Json, TrustRemoteCode, command, print_json
from turnout.cli.console import Bars, say
from turnout.reasoning.grpo.config import GrpoConfig


@command(GrpoConfig)
def grpo(
    model: Annotated[
        str | None, typer.Argument(help="Checkpoint folder or hub id, MoE or dense. [default: the embedded model]")
    ] = None,
    *,
    tasks: Annotated[
        str, typer.Option(help="chains-2, chains-1+3, facts-500, gym-NAME, or JSONL with prompt and answer.")
    ],
    adapter: Adapter = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/MODEL-grpo-TASKS]")] = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Train a model for the reward of right final answers (GRPO); show its accuracy before and after."""
    from turnout.api.grpo import grpo as run

    folder = out or Path("runs") / f"{Path(model or 'embedded').name}-grpo-{Path(tasks).stem}"
    with Bars() as bars:
        result = run(
            model,
            tasks,
            folder,
            adapter=adapter,
            device=device,
            trust_remote_code=trust_remote_code,
            listener=bars,
            **settings,
        )
    if json:
        print_json(result.to_dict())
        return
    low, high = result.accuracy["interval"]
    print(
        f"accuracy {result.accuracy['before']:.3f} before, {result.accuracy['after']:.3f} after: "
        f"{result.accuracy['difference']:+.3f} [{low:+.3f}, {high:+.3f}] over {result.accuracy['problems']} problems"
    )
    say(f"model: {folder / 'model'}")
