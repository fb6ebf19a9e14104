"""How long a sweep will take and how much disk, before it starts: a few steps of some shapes are timed."""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from turnout.progress import Progress, silent
from turnout.sparsity.sweep.grid import Trial
from turnout.training import TrainRecipe
from turnout.training.data import load_tokenizer
from turnout.training.run import timed_steps

_MOST_SHAPES = 5
_BYTES = 4  # weights and optimiser states are float32
_CHECKPOINTS, _STATES = 2, 3  # two checkpoints are kept while a trial runs: weights and two moments


@dataclass(frozen=True)
class Estimate:
    """What a sweep will cost.

    Attributes:
        trials: how many are still to be done.
        tokens: their training tokens in all.
        flops: their training FLOPs in all.
        seconds: at the speed of the timed steps, over `processes`, each as fast as one alone; evaluation not counted.
            None where no shape could be timed.
        disk: bytes that stay.
        disk_while_running: bytes of checkpoints beside them.
        timed: (name, seconds a step) of what was timed.
    """

    trials: int
    tokens: int
    flops: float
    seconds: float | None
    disk: int
    disk_while_running: int
    timed: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def estimate(trials: Sequence[Trial], processes: int, progress: Progress = silent) -> Estimate:
    """Time and disk of `trials`; times two steps of up to five shapes, the others by their FLOPs a step.

    A shape that cannot be timed (its process is killed for memory, say) is left out: its trial will say why.
    """
    if not trials:
        return Estimate(0, 0, 0.0, 0.0, 0, 0, ())
    per_step = {trial.shape: trial.flops / trial.recipe.steps for trial in trials}
    shapes = sorted(per_step, key=lambda shape: per_step[shape])
    picked = [shapes[i] for i in sorted(set(np.linspace(0, len(shapes) - 1, _MOST_SHAPES).round().astype(int)))]
    one_of = {trial.shape: trial for trial in trials}
    timed = dict(zip(picked, _timed([one_of[shape] for shape in picked], progress), strict=False))
    known = [per_step[shape] for shape in timed]
    seconds = None
    if timed:
        steps = list(timed.values())
        of = {}
        for shape, cost in per_step.items():  # beyond the largest that was timed, in proportion to its FLOPs
            of[shape] = float(np.interp(cost, known, steps)) * max(1.0, cost / known[-1])
        seconds = sum(of[trial.shape] * trial.recipe.steps for trial in trials) / min(processes, len(trials))
    kept = [trial.parameters.total * _BYTES for trial in trials]
    return Estimate(
        trials=len(trials),
        tokens=sum(trial.recipe.schedule.tokens for trial in trials),
        flops=sum(trial.flops for trial in trials),
        seconds=seconds,
        disk=sum(kept),
        disk_while_running=max(kept) * _STATES * _CHECKPOINTS * processes,
        timed=tuple(timed.items()),
    )


def _timed(trials: Sequence[Trial], progress: Progress) -> list[float]:
    """Seconds a step of each trial, smallest first, up to the first that fails; in a process that may be killed."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    recipes = [trial.recipe.model_dump(mode="json") for trial in trials]
    child = context.Process(target=_time_each, args=(recipes, writer))
    child.start()
    writer.close()
    found: list[float] = []
    try:
        progress("timing", 0, len(trials), "shapes")
        while len(found) < len(trials):
            found.append(reader.recv())
            progress("timing", len(found), len(trials), "shapes")
    except EOFError:  # the child has ended
        progress("timing", len(trials), len(trials), "shapes")
    finally:
        child.terminate()
        child.join()
    return found


def _time_each(recipes: Sequence[dict[str, Any]], writer: Connection) -> None:
    """The faster of two steps on one thread, of each."""
    torch.set_num_threads(1)
    for content in recipes:
        recipe = TrainRecipe.parse(content)
        start, times = time.perf_counter(), []
        try:
            for _ in timed_steps(recipe, load_tokenizer(recipe.data.tokenizer), 3):
                times.append(time.perf_counter() - start)
                start = time.perf_counter()
        except Exception:  # its trial ends with the same one, which is kept there
            return
        writer.send(min(times[1:]))
