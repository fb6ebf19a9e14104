"""Time and disk that a sweep needs, before it starts: a few steps of some shapes are timed."""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from turnout.listener import Listener
from turnout.sparsity.sweep.grid import Trial
from turnout.training.recipe import TrainRecipe
from turnout.training.tokens import load_tokenizer
from turnout.training.trainer import timed_steps

_MOST_SHAPES = 5
_BYTES = 4  # weights and optimizer states are float32
_CHECKPOINTS, _STATES = 2, 3  # two checkpoints are kept while a trial runs: weights and two moments


@dataclass(frozen=True)
class Estimate:
    """Cost of the trials that are not done.

    Attributes:
        trials: their number.
        tokens: training tokens of all.
        flops: training FLOPs of all.
        seconds: at the speed of the timed steps, over the processes, each as fast as one alone; evaluation not counted.
            None if no shape could be timed.
        disk: bytes that stay.
        disk_while_running: bytes of checkpoints in addition.
        timed: (shape, seconds a step) of the timed shapes.
    """

    trials: int
    tokens: int
    flops: float
    seconds: float | None
    disk: int
    disk_while_running: int
    timed: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """The estimate as a JSON object."""
        return asdict(self)


def estimate(trials: Sequence[Trial], processes: int, listener: Listener) -> Estimate:
    """Estimate time and disk of `trials`: two steps of up to five shapes are timed, others follow by FLOPs a step.

    A shape that cannot be timed, for instance because its process is killed for memory, is left out; its trial will
    fail with the reason.

    Args:
        trials: the trials that are not done.
        processes: trials at a time.
        listener: receives the number of shapes timed.
    """
    if not trials:
        return Estimate(0, 0, 0.0, 0.0, 0, 0, ())
    flops = {trial.shape: trial.flops / trial.recipe.steps for trial in trials}
    shapes = sorted(flops, key=lambda shape: flops[shape])
    picked = [shapes[i] for i in sorted(set(np.linspace(0, len(shapes) - 1, _MOST_SHAPES).round().astype(int)))]
    one_of = {trial.shape: trial for trial in trials}
    timed = dict(zip(picked, _time([one_of[shape] for shape in picked], listener), strict=False))
    weights = [trial.parameters.total * _BYTES for trial in trials]
    return Estimate(
        trials=len(trials),
        tokens=sum(trial.recipe.schedule.tokens for trial in trials),
        flops=sum(trial.flops for trial in trials),
        seconds=_seconds(trials, flops, timed) / min(processes, len(trials)) if timed else None,
        disk=sum(weights),
        disk_while_running=max(weights) * _STATES * _CHECKPOINTS * processes,
        timed=tuple(timed.items()),
    )


def _seconds(trials: Sequence[Trial], flops: dict[str, float], timed: dict[str, float]) -> float:
    """Seconds of all trials one after another; beyond the largest timed shape in proportion to FLOPs a step."""
    known, seconds = [flops[shape] for shape in timed], list(timed.values())
    step = {shape: float(np.interp(cost, known, seconds)) * max(1.0, cost / known[-1]) for shape, cost in flops.items()}
    return sum(step[trial.shape] * trial.recipe.steps for trial in trials)


def _time(trials: Sequence[Trial], listener: Listener) -> list[float]:
    """Seconds a step of each trial, smallest first, up to the first that fails; in a process that may be killed."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    recipes = [trial.recipe.model_dump(mode="json") for trial in trials]
    child = context.Process(target=_time_each, args=(recipes, writer))
    child.start()
    writer.close()
    seconds: list[float] = []
    try:
        listener.progress("timing", 0, len(trials), "shapes")
        while len(seconds) < len(trials):
            seconds.append(reader.recv())
            listener.progress("timing", len(seconds), len(trials), "shapes")
    except EOFError:  # the process has ended
        listener.progress("timing", len(trials), len(trials), "shapes")
    finally:
        child.terminate()
        child.join()
    return seconds


def _time_each(recipes: Sequence[dict[str, Any]], writer: Connection) -> None:
    """Send the faster of two steps on one thread, for each recipe."""
    torch.set_num_threads(1)
    for content in recipes:
        recipe = TrainRecipe.parse(content)
        start, times = time.perf_counter(), []
        try:
            for _ in timed_steps(recipe, load_tokenizer(recipe.data.tokenizer), 3):
                times.append(time.perf_counter() - start)
                start = time.perf_counter()
        except Exception:  # its trial fails with the same error, which is stored there
            return
        writer.send(min(times[1:]))
