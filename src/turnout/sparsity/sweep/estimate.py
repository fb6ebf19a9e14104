"""How long a sweep will take and how much disk, before it starts: a few steps of some shapes are timed."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from turnout.progress import Progress, silent
from turnout.sparsity.sweep.trials import Trial
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
        disk: bytes that stay.
        disk_while_running: bytes of checkpoints beside them.
        timed: (name, seconds a step) of what was timed.
    """

    trials: int
    tokens: int
    flops: float
    seconds: float
    disk: int
    disk_while_running: int
    timed: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def estimate(trials: Sequence[Trial], processes: int, progress: Progress = silent) -> Estimate:
    """Time and disk of `trials`; times two steps of up to five shapes, the others by their FLOPs a step."""
    if not trials:
        return Estimate(0, 0, 0.0, 0.0, 0, 0, ())
    per_step = {trial.shape: trial.flops / trial.recipe.steps for trial in trials}
    shapes = sorted(per_step, key=lambda shape: per_step[shape])
    picked = [shapes[i] for i in sorted(set(np.linspace(0, len(shapes) - 1, _MOST_SHAPES).round().astype(int)))]
    one_of = {trial.shape: trial for trial in trials}
    timed = []
    for done, shape in enumerate(picked):
        progress("timing", done, len(picked), "shapes")
        timed.append((shape, _seconds(one_of[shape])))
    progress("timing", len(picked), len(picked), "shapes")
    known = [per_step[shape] for shape, _ in timed]
    seconds = {shape: float(np.interp(per_step[shape], known, [s for _, s in timed])) for shape in shapes}
    kept = [trial.parameters.total * _BYTES for trial in trials]
    return Estimate(
        trials=len(trials),
        tokens=sum(trial.recipe.schedule.tokens for trial in trials),
        flops=sum(trial.flops for trial in trials),
        seconds=sum(seconds[trial.shape] * trial.recipe.steps for trial in trials) / min(processes, len(trials)),
        disk=sum(kept),
        disk_while_running=max(kept) * _STATES * _CHECKPOINTS * processes,
        timed=tuple(timed),
    )


def _seconds(trial: Trial) -> float:
    """Seconds a step on one thread, the faster of two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start, times = time.perf_counter(), []
        for _ in timed_steps(trial.recipe, load_tokenizer(trial.recipe.data.tokenizer), 3):
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
        return min(times[1:])
    finally:
        torch.set_num_threads(threads)
