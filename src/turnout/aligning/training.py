"""Training loop: the tail alone, AdamW on the routers, checkpoints.

Shapes: S training questions, B of a batch, F scores of the layers that are read.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import AdamW

from turnout.aligning.answers import Letters
from turnout.aligning.config import AlignConfig
from turnout.aligning.methods import Penalty
from turnout.aligning.reading import Reader
from turnout.errors import ModelError
from turnout.progress import Progress
from turnout.runs import atomic

CURVES = ("loss", "cross_entropy", "penalty", "weight", "learning_rate", "gradient_norm")
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State after `step` steps.

    Attributes:
        step: optimiser steps taken.
        weights: the routers, by name.
        moments: AdamW's state, by "name/moment"; empty before the first step.
        curves: one row a step, columns `CURVES`.
        stopped: why training ended there, if it did before its time.
        seconds: training time so far.
    """

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    curves: Tensor
    stopped: str | None = None
    seconds: float = 0.0

    @classmethod
    def read(cls, path: Path) -> "Checkpoint | None":
        """The checkpoint in `path`; None if there is none, or a damaged one."""
        try:
            with safe_open(path, framework="pt") as file:
                said = json.loads((file.metadata() or {})["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        curves = tensors.pop("curves")
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "moments": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = tensor
        return cls(said["step"], groups["weights"], groups["moments"], curves, said["stopped"], said["seconds"])

    def write(self, path: Path) -> None:
        """Put this checkpoint in the place of the one before."""
        tensors = {f"weights/{name}": tensor for name, tensor in self.weights.items()}
        tensors |= {f"moments/{name}": tensor for name, tensor in self.moments.items()}
        state = json.dumps({"step": self.step, "stopped": self.stopped, "seconds": self.seconds})
        atomic.write_bytes(path, save({**tensors, "curves": self.curves}, metadata={"state": state}))


def moments(optimizer: AdamW, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of AdamW's state of each of `weights`."""
    state = optimizer.state
    return {
        f"{name}/{moment}": state[tensor][moment].detach().cpu().clone()
        for name, tensor in weights.items()
        if tensor in state
        for moment in _MOMENTS
    }


@torch.no_grad()
def restore(checkpoint: Checkpoint, optimizer: AdamW, weights: dict[str, Tensor]) -> None:
    """Put the checkpoint's routers into `weights` and its moments into `optimizer`."""
    for name, tensor in weights.items():
        tensor.copy_(checkpoint.weights[name])
        found = {m: checkpoint.moments[f"{name}/{m}"] for m in _MOMENTS if f"{name}/{m}" in checkpoint.moments}
        if found:
            optimizer.state[tensor] = {
                m: t.clone().to(tensor.device if m != "step" else "cpu") for m, t in found.items()
            }


@dataclass(frozen=True, eq=False)
class Training:
    """What a training left: the routers are in the `RouterWeights` that it was given.

    Attributes:
        steps: optimiser steps that the routers have taken.
        curves: one row a step, columns `CURVES`.
        stopped: why it ended before its time; None if it did not.
        seconds: time of all its steps, those of earlier processes included.
    """

    steps: int
    curves: Tensor
    stopped: str | None
    seconds: float


@dataclass(eq=False)
class Trainer:
    """Trains the routers of `reader` on its questions, with `penalty` on their routing."""

    reader: Reader
    letters: Letters
    penalty: Penalty | None
    config: AlignConfig

    def __post_init__(self) -> None:
        schedule, self._weights = self.config.schedule, self.reader.weights.tensors
        self._optimizer = AdamW(
            list(self._weights.values()), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )

    @property
    def n_questions(self) -> int:
        """Questions of an epoch."""
        return len(self.letters.asked.ids)

    @property
    def n_steps(self) -> int:
        """Steps of the whole training."""
        return self.config.schedule.epochs * math.ceil(self.n_questions / self.config.schedule.batch_size)

    def run(self, path: Path, progress: Progress) -> Training:
        """Train to the end, from the checkpoint in `path` if there is one; the last one stays there.

        A loss or gradient that is not finite stops it: the routers are then those of the last finite loss.

        Raises:
            ModelError: the very first loss is not finite.
        """
        found = Checkpoint.read(path)
        begun = found.step if found else 0
        curves = found.curves if found else torch.empty(0, len(CURVES), dtype=torch.float64)
        if found:
            restore(found, self._optimizer, self._weights)
            if found.stopped or begun == self.n_steps:
                return Training(found.step, curves, found.stopped, found.seconds)
        rows, started, before = [curves], time.monotonic(), found.seconds if found else 0.0
        good, stopped, batch = self._copy(), False, [0]
        for step, batch in enumerate(self.batches(begun), start=begun):
            row = self.step(step, batch)
            stopped = not all(map(math.isfinite, row))
            if stopped:
                break
            good = self._copy()
            if step > begun and step % self.config.schedule.save_every == 0:  # only routers whose loss is finite
                self._save(path, step, rows, None, before + time.monotonic() - started)
            rows.append(torch.tensor([row], dtype=torch.float64))
            self._optimizer.step()
            progress("training", step + 1, self.n_steps, "steps")
        curves, reason = torch.cat(rows), None
        if stopped or not self._is_finite(batch):
            reason = self._take_back(len(curves), good)
        steps, seconds = len(curves) - (reason is not None), before + time.monotonic() - started
        self._save(path, steps, rows, reason, seconds)
        return Training(steps, curves, reason, seconds)

    def step(self, step: int, batch: Sequence[int]) -> tuple[float, ...]:
        """Gradients of one batch of questions; the row of the curves. The routers do not move yet."""
        weight, parts = self._weight(step), torch.zeros(2, dtype=torch.float64)
        self._optimizer.zero_grad(set_to_none=True)
        for group in self.reader.groups(batch):
            share = len(group) / len(batch)
            loss, penalty = self._losses(torch.tensor(group), weight)
            (loss + weight * penalty if weight else loss).mul(share).backward()
            parts += share * torch.stack([loss.detach(), penalty.detach()]).double().cpu()
        norm = self._clip()
        for settings in self._optimizer.param_groups:
            settings["lr"] = self._learning_rate(step)
        cross_entropy, penalty = parts.tolist()
        return cross_entropy + weight * penalty, cross_entropy, penalty, weight, self._learning_rate(step), norm

    def _losses(self, question_B: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        reading = self.reader.read(question_B.tolist())
        loss = self.letters.loss(reading.logits_BU, question_B)
        if self.penalty is None or weight == 0:
            return loss, loss.new_zeros(())
        return loss, self.penalty(reading.routing_BF, question_B)

    def batches(self, begun: int) -> Iterator[list[int]]:
        """The questions of each step from `begun` on; each epoch has an order of its own, drawn from the seed."""
        schedule, step = self.config.schedule, 0
        for epoch in range(schedule.epochs):
            generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + epoch)
            order = torch.randperm(self.n_questions, generator=generator).tolist()
            for at in range(0, self.n_questions, schedule.batch_size):
                if step >= begun:
                    yield order[at : at + schedule.batch_size]
                step += 1

    def _weight(self, step: int) -> float:
        """λ at a step."""
        warmup = self.config.manifold.warmup
        return self.config.weight * (min(1.0, (step + 1) / warmup) if warmup else 1.0)

    def _learning_rate(self, step: int) -> float:
        rate, decay = self.config.schedule.learning_rate, self.config.schedule.decay
        return rate if decay == "constant" else rate * (1 + math.cos(math.pi * step / self.n_steps)) / 2

    def _clip(self) -> float:
        """The gradient's length before it was shortened."""
        most = self.config.schedule.max_grad_norm
        tensors = list(self._weights.values())
        return float(torch.nn.utils.clip_grad_norm_(tensors, math.inf if most is None else most))

    @torch.no_grad()
    def _is_finite(self, batch: Sequence[int]) -> bool:
        """Whether the routers as they are give these questions a finite loss."""
        question_B = torch.tensor(self.reader.groups(batch)[0])
        return bool(self.letters.loss(self.reader.read(question_B.tolist()).logits_BU, question_B).isfinite())

    @torch.no_grad()
    def _take_back(self, step: int, good: dict[str, Tensor]) -> str:
        """The routers as they were before the `step`-th step; why."""
        if step == 0:
            expected, received = "a finite loss of the base model", "NaN or infinity at the first step"
            raise ModelError(self.reader.tail.moe.model_id, expected=expected, received=received)
        for name, tensor in self._weights.items():
            tensor.copy_(good[name])
        return f"the loss after step {step} was not finite: training stopped, with the routers from before that step"

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._weights.items()}

    def _save(self, path: Path, step: int, rows: list[Tensor], stopped: str | None, seconds: float) -> None:
        kept = {name: tensor.cpu() for name, tensor in self._copy().items()}
        state = moments(self._optimizer, self._weights)
        Checkpoint(step, kept, state, torch.cat(rows), stopped, seconds).write(path)
