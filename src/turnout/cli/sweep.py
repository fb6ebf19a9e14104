"""`turnout sweep RECIPE.yaml`: a grid of models at one budget, each trained, asked and audited."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from turnout.cli.console import Bars, SweepTable, print_table, say
from turnout.cli.verb import Json, print_json, verb


class Engine(StrEnum):
    """Where trials run."""

    local = "local"
    ray = "ray"


@verb
def sweep(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe; docs/methods/sweep.md lists its keys.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the sweep. [default: runs/NAME-OF-RECIPE]")] = None,
    engine: Annotated[Engine, typer.Option(help="local: processes here. ray: Ray, or the cluster of RAY_ADDRESS.")] = (
        Engine.local
    ),
    processes: Annotated[
        int | None, typer.Option(help="Trials at a time, one thread each. [default: as many as cores]", min=1)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take, in time and disk.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed trials again.")] = False,
    json: Json = False,
) -> None:
    """Train a grid of shapes at one budget and compare them; the same command goes on where a killed sweep stopped."""
    from turnout.api import old as api
    from turnout.quantities import show_bytes, show_count
    from turnout.sparsity.sweep import SweepRecipe
    from turnout.sparsity.sweep.run import plan_sweep

    read, folder = SweepRecipe.load(recipe), out or Path("runs") / recipe.stem
    at_once = processes or os.cpu_count() or 1
    with Bars() as bars:
        cost = plan_sweep(read, folder, at_once, progress=bars, retry_failed=retry_failed)
    if cost.trials:
        time = "no shape could be timed" if cost.seconds is None else f"about {cost.seconds / 60:.0f} minutes"
        say(
            f"{cost.trials} trials, {show_count(cost.tokens)} tokens, {show_count(cost.flops)} FLOPs: "
            f"{time} with {at_once} at a time, {show_bytes(cost.disk)} on disk "
            f"(while running {show_bytes(cost.disk_while_running)} more)"
        )
    if dry_run:
        if json:
            print_json(cost.to_dict())
        return
    with SweepTable() as shown:
        found = api.sweep(
            read, folder, processes=at_once, engine=engine.value, retry_failed=retry_failed, watch=shown.update
        )
    if found.already_complete:
        say(f"{folder}: this sweep is complete; nothing is computed again")
    for trial in found.failed:
        say(f"{trial['name']} failed: {trial['error']}")
    if json:
        print_json(found.to_dict())
        return
    said = found.frontier()
    _show(said)
    _show_frontier(said)
    say(f"sweep: {folder}, page: {folder / 'report.html'}")


def _show_frontier(said: dict[str, Any]) -> None:
    """What the trials say together."""
    from turnout import report

    for table in report.frontier_tables(said):
        print_table(table.columns, table.rows, table.title)
    for note in said["notes"]:
        say(note)


def _show(said: dict[str, Any]) -> None:
    """Means over seeds: a row a shape, then a row a shape and task, chains of all lengths together."""
    tasks = [task for task in said["tasks"] if task == "chains" or not task.startswith("chains-")]

    def mean(point: dict[str, Any], task: str, measure: str) -> str:
        value = point["values"].get(task, {}).get(measure)
        return "–" if value is None else f"{value['mean']:.3f}"

    rows, by_task = [], []
    for point in said["points"]:
        seeds = point["values"].get("training", {}).get("loss", {}).get("n", 0)
        head = [point["name"], str(seeds), f"{point['sparsity']:.3f}", f"{point['tpp']:.2f}"]
        rows.append([*head, mean(point, "training", "loss"), mean(point, "audit", "gini")])
        by_task += [[point["name"], task, mean(point, task, "loss"), mean(point, task, "accuracy")] for task in tasks]
    print_table(["shape", "seeds", "sparsity", "TPP", "training loss", "gini"], rows)
    print_table(["shape", "task", "task loss", "accuracy"], by_task)
