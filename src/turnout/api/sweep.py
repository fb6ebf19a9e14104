"""`turnout.sweep`: a grid of models at one budget, trained, scored, audited and analyzed (arXiv 2508.18672)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from turnout.api.deprecated import former_names
from turnout.api.pages import draw_page
from turnout.errors import RecipeError
from turnout.listener import Listener
from turnout.runs import RunFolder
from turnout.runs.opening import open_run

if TYPE_CHECKING:
    from turnout.sparsity.sweep.recipe import SweepRecipe
    from turnout.sparsity.sweep.result import SweepResult


@former_names()
def sweep(
    recipe: "SweepRecipe | str | Path | Mapping[str, Any]",
    out: str | Path,
    *,
    processes: int = 1,
    engine: Literal["local", "ray"] = "local",
    retry_failed: bool = False,
    listener: Listener | None = None,
) -> "SweepResult":
    """Train a grid of models at one budget; score, audit and analyze them, and draw the page.

    Each trial is a process of one thread. A sweep that was killed resumes: finished trials are kept, unfinished ones
    continue from their last checkpoint. A trial that fails is stored with its error; one whose process is killed is run
    once more.

    >>> result = turnout.sweep("sweep.yaml", "runs/sweep", processes=2)
    >>> result.frame(), result.frontier()

    Args:
        recipe: a `SweepRecipe`, the YAML file of one, or its content as a mapping.
        out: the sweep's folder; new, empty, or this sweep's.
        processes: trials at a time.
        engine: "local", or "ray": workers on this machine or the cluster of RAY_ADDRESS. Both write the same bytes.
        retry_failed: run failed trials of a finished sweep again.
        listener: receives the state of each trial, and notes.

    Returns:
        `.trials`, `.failed`, `.frame()`, `.shapes()`, `.frontier()`, `.to_dict()`.

    Raises:
        RecipeError: the recipe does not fit, has no legal point or the same trial twice, or a budget below one step.
        RunError: `out` contains another sweep (the difference is named) or something else.
        MissingExtraError: the engine is not installed.
    """
    from turnout.sparsity.sweep.grid import build_grid
    from turnout.sparsity.sweep.result import SweepResult
    from turnout.sparsity.sweep.run import KEEP, forget_failures, inputs_of, run

    if processes < 1:
        raise RecipeError("processes", expected="1 or more", received=processes)
    if engine not in ("local", "ray"):
        raise RecipeError("engine", expected="local or ray", received=engine)
    listener, recipe = listener or Listener(), _recipe(recipe)
    grid = build_grid(recipe)
    inputs = inputs_of(recipe, grid)
    if retry_failed and Path(out).exists():
        with RunFolder.open(out, inputs) as folder:
            forget_failures(folder, grid)
    with open_run(out, inputs, listener, keep=KEEP) as folder:
        if not folder.complete:
            run(recipe, grid, folder, listener, processes=processes, engine=engine, audit=audit_trained)
    draw_page(folder)
    return folder.load(SweepResult)


def audit_trained(model: Path, tasks: str, out: Path) -> dict[str, Any]:
    """Audit a trained model over all tokens of `tasks`; audit.json's content. Trials import it by this module's name.

    Args:
        model: the model's folder.
        tasks: a task's name or file.
        out: the audit's run folder.
    """
    from turnout.api.audit import audit

    return audit(model, tasks, out, scope="all").to_dict()


def _recipe(recipe: "SweepRecipe | str | Path | Mapping[str, Any]") -> "SweepRecipe":
    from turnout.sparsity.sweep.recipe import SweepRecipe

    if isinstance(recipe, SweepRecipe):
        return recipe
    return SweepRecipe.parse(dict(recipe)) if isinstance(recipe, Mapping) else SweepRecipe.load(recipe)
