"""A sweep's work in its run folder: run every trial that is not done, gather the results, analyze them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from turnout.listener import Listener
from turnout.runs import RunFolder
from turnout.runs.json_files import read_object, sha256
from turnout.runs.manifest import PAGE
from turnout.sparsity.analysis.frontier import FRONTIER_FILE, frontier, frontier_tables
from turnout.sparsity.sweep.engines import Queue, run_local, run_on_ray
from turnout.sparsity.sweep.estimate import Estimate, estimate
from turnout.sparsity.sweep.grid import Grid, Trial, build_grid
from turnout.sparsity.sweep.recipe import SweepRecipe
from turnout.sparsity.sweep.result import SWEEP_FILE, content_of, sweep_tables
from turnout.sparsity.sweep.trial import ERROR, RESULT, AuditModel, Job
from turnout.training.run import recipe_files

Engine = Literal["local", "ray"]
State = Literal["waiting", "done", "failed"]
TRIALS, TOKENS = "trials", ".tokens"
KEEP = (f"{TRIALS}/*/*",)
"""Files of an unfinished sweep that are worth resuming from."""
_ENGINES = {"local": run_local, "ray": run_on_ray}


def run(
    recipe: SweepRecipe,
    grid: Grid,
    folder: RunFolder,
    listener: Listener,
    *,
    processes: int,
    engine: Engine,
    audit: AuditModel | None,
) -> None:
    """Train, score and audit every trial that is not done, each in a process of one thread; complete the sweep.

    A trial that was stopped resumes from its last checkpoint. One that fails is stored with its error; one whose
    process is killed is run once more.

    Args:
        recipe: the recipe.
        grid: its trials.
        folder: an open, unfinished sweep.
        listener: receives each trial's states.
        processes: trials at a time.
        engine: "local" or "ray"; both write the same bytes.
        audit: a function that audits a model; it is pickled.

    Raises:
        MissingExtraError: the engine is not installed.
    """
    states = {trial.name: trial_state(folder.path, trial) for trial in grid.trials}
    for name, state in states.items():
        listener.trial(name, state)
    waiting = [trial for trial in grid.trials if states[trial.name] == "waiting"]
    jobs = [_job(folder.path, recipe, trial, audit) for trial in waiting]
    _ENGINES[engine](Queue(jobs, listener), processes)
    content = content_of(grid, [_outcome(folder.path, trial) for trial in grid.trials])
    analysis = frontier(content, recipe.margin)
    for name, table in (sweep_tables(content) | frontier_tables(analysis)).items():
        folder.write_table(name, table)
    folder.write_json(SWEEP_FILE, content)
    folder.write_json(FRONTIER_FILE, analysis)
    folder.finish(seed=list(recipe.seeds))


def inputs_of(recipe: SweepRecipe, grid: Grid) -> dict[str, object]:
    """Inputs that identify the sweep: the recipe, and the digests of all files that it names."""
    files = recipe_files(grid.trials[0].recipe)  # all trials have the same data
    if recipe.ask.audit is not None and Path(recipe.ask.audit).is_file():
        files[recipe.ask.audit] = sha256(Path(recipe.ask.audit))
    return {"verb": "sweep", "recipe": recipe.describe(), "files": files}


def estimate_remaining(
    recipe: SweepRecipe, out: str | Path, processes: int, listener: Listener, *, retry_failed: bool = False
) -> Estimate:
    """Estimate the trials that are not done in `out`, in time and disk; nothing is written.

    Raises:
        RecipeError: as `build_grid`.
    """
    ended = ("done",) if retry_failed else ("done", "failed")
    remaining = [trial for trial in build_grid(recipe).trials if trial_state(Path(out), trial) not in ended]
    return estimate(remaining, processes, listener)


def forget_failures(folder: RunFolder, grid: Grid) -> None:
    """Remove the errors of failed trials, and the page: a complete sweep becomes unfinished, and they run again."""
    failed = [trial for trial in grid.trials if trial_state(folder.path, trial) == "failed"]
    if failed:
        folder.reopen()
        (folder.path / PAGE).unlink(missing_ok=True)
    for trial in failed:
        (_trial_folder(folder.path, trial) / ERROR).unlink()


def trial_state(out: Path, trial: Trial) -> State:
    """State of a trial by the files in its folder."""
    folder = _trial_folder(out, trial)
    return "done" if (folder / RESULT).exists() else "failed" if (folder / ERROR).exists() else "waiting"


def _trial_folder(out: Path, trial: Trial) -> Path:
    return out / TRIALS / trial.name


def _job(out: Path, recipe: SweepRecipe, trial: Trial, audit: AuditModel | None) -> Job:
    training, scoring = trial.recipe.model_dump(mode="json"), recipe.ask.describe()
    return Job(training, scoring, _trial_folder(out, trial), out / TOKENS, audit)


def _outcome(out: Path, trial: Trial) -> Mapping[str, Any]:
    folder = _trial_folder(out, trial)
    name = RESULT if (folder / RESULT).exists() else ERROR
    return read_object(folder / name, "a trial's result", "remove it and run the sweep again")
