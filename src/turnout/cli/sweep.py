"""`turnout sweep RECIPE.yaml`: a grid of models at one budget, each trained, scored and audited."""

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.live import Live
from rich.table import Table

from turnout.cli.command import Json, command, print_json
from turnout.cli.console import ERR, Bars, print_table, say
from turnout.listener import Listener
from turnout.quantities import show_bytes, show_count

if TYPE_CHECKING:
    from turnout.sparsity.sweep.estimate import Estimate


@command()
def sweep(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe; docs/methods/sweep.md lists its keys.")],
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="local: processes here. ray: Ray, or the cluster of RAY_ADDRESS.", show_default=True),
    ] = "local",
    processes: Annotated[
        int | None, typer.Option(help="Trials at a time, one thread each. [default: as many as cores]", min=1)
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the needed time and disk and stop.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the sweep. [default: runs/NAME-OF-RECIPE]")] = None,
    json: Json = False,
) -> None:
    """Train a grid of shapes at one budget and compare them; the same command resumes a killed sweep."""
    from turnout.api.sweep import sweep as run
    from turnout.sparsity.sweep.recipe import SweepRecipe
    from turnout.sparsity.sweep.run import estimate_remaining

    loaded, folder = SweepRecipe.load(recipe), out or Path("runs") / recipe.stem
    at_once = processes or os.cpu_count() or 1
    with Bars() as bars:
        cost = estimate_remaining(loaded, folder, at_once, bars, retry_failed=retry_failed)
    _say_cost(cost, at_once)
    if dry_run:
        if json:
            print_json(cost.to_dict())
        return
    with TrialTable() as table:
        result = run(loaded, folder, processes=at_once, engine=engine, retry_failed=retry_failed, listener=table)
    for trial in result.failed:
        say(f"{trial['name']} failed: {trial['error']}")
    if json:
        print_json(result.to_dict())
        return
    frontier = result.frontier()
    _show_means(frontier)
    _show_analysis(frontier)
    say(f"sweep: {folder}, page: {folder / 'report.html'}")


class TrialTable(Listener):
    """Listener of a sweep: its trials by state, redrawn as they change; without a terminal, a line for each that ends.

    Use as a context manager.
    """

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._live = Live(console=ERR, transient=True, refresh_per_second=2) if sys.stderr.isatty() else None

    def __enter__(self) -> "TrialTable":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def trial(self, name: str, state: str) -> None:
        """Show the trial's new state."""
        before, self._states[name] = self._states.get(name), state
        if self._live:
            self._live.update(self._table())
        elif state in ("done", "failed") and before is not None:
            ended = sum(one in ("done", "failed") for one in self._states.values())
            say(f"{name} {state} ({ended} of {len(self._states)})")

    def note(self, line: str) -> None:
        """Print the line on stderr."""
        say(line)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        counts = Counter(self._states.values())
        table.add_row(", ".join(f"{counts[state]} {state}" for state in sorted(counts)))
        for name, state in self._states.items():
            if state in ("running", "failed"):
                table.add_row(f"{state}  {name}")
        return table


def _say_cost(cost: "Estimate", at_once: int) -> None:
    if not cost.trials:
        return
    time = "no shape could be timed" if cost.seconds is None else f"about {cost.seconds / 60:.0f} minutes"
    say(
        f"{cost.trials} trials, {show_count(cost.tokens)} tokens, {show_count(cost.flops)} FLOPs: "
        f"{time} with {at_once} at a time, {show_bytes(cost.disk)} on disk "
        f"(while running {show_bytes(cost.disk_while_running)} more)"
    )


def _show_means(frontier: dict[str, Any]) -> None:
    """Means over seeds: a row a shape, then a row a shape and task, chains of all lengths together."""
    tasks = [task for task in frontier["tasks"] if task == "chains" or not task.startswith("chains-")]

    def mean(point: dict[str, Any], task: str, measure: str) -> str:
        value = point["values"].get(task, {}).get(measure)
        return "–" if value is None else f"{value['mean']:.3f}"

    rows, by_task = [], []
    for point in frontier["points"]:
        seeds = point["values"].get("training", {}).get("loss", {}).get("n", 0)
        head = [point["name"], str(seeds), f"{point['sparsity']:.3f}", f"{point['tpp']:.2f}"]
        rows.append([*head, mean(point, "training", "loss"), mean(point, "audit", "gini")])
        by_task += [[point["name"], task, mean(point, task, "loss"), mean(point, task, "accuracy")] for task in tasks]
    print_table(["shape", "seeds", "sparsity", "TPP", "training loss", "gini"], rows)
    print_table(["shape", "task", "task loss", "accuracy"], by_task)


def _show_analysis(frontier: dict[str, Any]) -> None:
    """Verdicts and paired differences over all trials, and the notes about them."""
    from turnout import report

    for table in report.frontier_tables(frontier):
        print_table(table.columns, table.rows, table.title)
    for note in frontier["notes"]:
        say(note)
