"""`sweep`: a recipe in, every trial trained and asked, one result out; what is finished is never done again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from turnout.errors import RecipeError
from turnout.progress import Progress, silent
from turnout.runs import RunFolder
from turnout.runs.json_files import read_object, sha256, write_json
from turnout.sparsity.analysis.frontier import FRONTIER_FILE, frontier, frontier_tables
from turnout.sparsity.sweep.engines import run_local, run_on_ray
from turnout.sparsity.sweep.estimate import Estimate, estimate
from turnout.sparsity.sweep.grid import Trial, trials
from turnout.sparsity.sweep.recipe import SweepRecipe
from turnout.sparsity.sweep.result import SWEEP_FILE, SweepResult, gather
from turnout.sparsity.sweep.trial import FAILED, FOUND, AuditModel, Job
from turnout.training.run import recipe_files

Engine = Literal["local", "ray"]
State = Literal["waiting", "running", "done", "failed"]
Watch = Callable[[str, State], None]
"""Hears of each trial (name) whenever its state changes."""
TRIALS, TOKENS = "trials", ".tokens"
_TRIES = 2  # of a trial whose process was killed
_ENGINES = {"local": run_local, "ray": run_on_ray}


def plan_sweep(
    recipe: SweepRecipe, out: str | Path, processes: int, progress: Progress = silent, *, retry_failed: bool = False
) -> Estimate:
    """What `sweep` would still have to do in `out`, in time and disk; writes nothing."""
    made, _ = trials(recipe)
    ended = ("done",) if retry_failed else ("done", "failed")
    return estimate([one for one in made if _state(Path(out), one) not in ended], processes, progress)


def sweep(
    recipe: SweepRecipe,
    out: str | Path,
    *,
    processes: int = 1,
    engine: Engine = "local",
    audit: AuditModel | None = None,
    retry_failed: bool = False,
    watch: Watch = lambda _name, _state: None,
) -> SweepResult:
    """Train, ask and audit every point of the recipe's grid, each in a process of one thread.

    A sweep that was killed goes on: finished trials are kept, unfinished ones go on from their last checkpoint. A
    trial that fails is kept with its error; one whose process is killed is tried once more.

    Args:
        recipe: the grid and its budget.
        out: the sweep's folder; new, empty, or this sweep's.
        processes: trials at a time.
        engine: "local" or "ray"; both give the same bytes.
        audit: how to audit a model; see `AuditModel`.
        retry_failed: try failed trials of a finished sweep again.
        watch: hears how trials go.

    Raises:
        RecipeError: the recipe has no legal point, the same trial twice, or a budget below one step.
        RunError: `out` holds another sweep (the difference is named) or something else.
        MissingExtraError: the engine is not installed.
    """
    if processes < 1:
        raise RecipeError("processes", expected="1 or more", received=processes)
    made, left_out = trials(recipe)
    with RunFolder.open(out, _inputs(recipe, made)) as run:
        if retry_failed:
            _forget_failures(run, made)
        if run.complete:
            return SweepResult.load(run.path, already_complete=True)
        jobs = [_job(run.path, recipe, trial, audit) for trial in made if _state(run.path, trial) == "waiting"]
        for trial in made:
            watch(trial.name, _state(run.path, trial))
        _Attempts(watch).run(jobs, processes, engine)
        content, tables = gather(made, left_out, [_outcome(run.path, trial) for trial in made])
        said = frontier(content, recipe.margin)
        for name, table in (tables | frontier_tables(said)).items():
            run.write_table(name, table)
        run.write_json(SWEEP_FILE, content)
        run.write_json(FRONTIER_FILE, said)
        run.finish(seed=list(recipe.seeds))
        return SweepResult.load(run.path)


class _Attempts:
    """Runs jobs, tells how they go, and gives a killed one a second chance."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._tried: dict[Path, int] = {}

    def run(self, jobs: Sequence[Job], processes: int, engine: Engine) -> None:
        _ENGINES[engine](jobs, processes, self._started, self._ended)

    def _started(self, job: Job) -> None:
        self._tried[job.folder] = self._tried.get(job.folder, 0) + 1
        self._watch(job.folder.name, "running")

    def _ended(self, job: Job, code: int) -> bool:
        if (job.folder / FOUND).exists():
            self._watch(job.folder.name, "done")
            return False
        if not (job.folder / FAILED).exists() and self._tried[job.folder] < _TRIES:
            self._watch(job.folder.name, "waiting")
            return True
        if not (job.folder / FAILED).exists():
            _write_killed(job.folder, code)
        self._watch(job.folder.name, "failed")
        return False


def _write_killed(folder: Path, code: int) -> None:
    how = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    said = f"its process was {how}, {_TRIES} times; perhaps it needs more memory than there is"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FAILED, {"error": said, "traceback": ""})


def _inputs(recipe: SweepRecipe, made: Sequence[Trial]) -> dict[str, object]:
    """What makes this sweep this sweep: the recipe, and the bytes of all files that it names."""
    files = recipe_files(made[0].recipe)  # all trials have the same data
    if recipe.ask.audit is not None and Path(recipe.ask.audit).is_file():
        files[recipe.ask.audit] = sha256(Path(recipe.ask.audit))
    return {"verb": "sweep", "recipe": recipe.model_dump(mode="json"), "files": files}


def _job(out: Path, recipe: SweepRecipe, trial: Trial, audit: AuditModel | None) -> Job:
    ask = recipe.ask.model_dump(mode="json")
    return Job(trial.recipe.model_dump(mode="json"), ask, _folder(out, trial), out / TOKENS, audit)


def _folder(out: str | Path, trial: Trial) -> Path:
    return Path(out) / TRIALS / trial.name


def _state(out: Path, trial: Trial) -> State:
    folder = _folder(out, trial)
    return "done" if (folder / FOUND).exists() else "failed" if (folder / FAILED).exists() else "waiting"


def _outcome(out: Path, trial: Trial) -> dict[str, Any]:
    folder = _folder(out, trial)
    name = FOUND if (folder / FOUND).exists() else FAILED
    return read_object(folder / name, "what a trial found", "remove it and run the sweep again")


def _forget_failures(run: RunFolder, made: Sequence[Trial]) -> None:
    failed = [_folder(run.path, trial) / FAILED for trial in made if _state(run.path, trial) == "failed"]
    if failed:
        run.go_on()
    for file in failed:
        file.unlink()
