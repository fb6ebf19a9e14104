"""Training loop: AdamW on the routers, through the tail alone, with checkpoints.

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
from turnout.listener import Listener
from turnout.runs import atomic

CURVES = ("loss", "cross_entropy", "penalty", "weight", "learning_rate", "gradient_norm")
"""Columns of the training curves: a step's loss = cross_entropy + weight · penalty."""
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of a training after `step` steps: one safetensors file, replaced atomically.

    Attributes:
        step: number of optimizer steps.
        weights: the routers, by name.
        moments: state of AdamW, by "name/moment"; empty before the first step.
        curves: one row a step, columns `CURVES`.
        stopped: why training ended early; None if it did not.
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
        """The checkpoint in the file `path`; None if there is none, or a damaged one."""
        try:
            with safe_open(path, framework="pt") as file:
                state = json.loads((file.metadata() or {})["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        curves = tensors.pop("curves")
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "moments": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = tensor
        return cls(state["step"], groups["weights"], groups["moments"], curves, state["stopped"], state["seconds"])

    def write(self, path: Path) -> None:
        """Replace the file `path`."""
        tensors = {f"weights/{name}": tensor for name, tensor in self.weights.items()}
        tensors |= {f"moments/{name}": tensor for name, tensor in self.moments.items()}
        state = json.dumps({"step": self.step, "stopped": self.stopped, "seconds": self.seconds})
        atomic.write_bytes(path, save({**tensors, "curves": self.curves}, metadata={"state": state}))

    @torch.no_grad()
    def restore(self, optimizer: AdamW, weights: dict[str, Tensor]) -> None:
        """Copy the routers into `weights` and the moments into `optimizer`."""
        for name, tensor in weights.items():
            tensor.copy_(self.weights[name])
            stored = {m: self.moments[f"{name}/{m}"] for m in _MOMENTS if f"{name}/{m}" in self.moments}
            if stored:
                optimizer.state[tensor] = {
                    m: t.clone().to(tensor.device if m != "step" else "cpu") for m, t in stored.items()
                }


def moments_of(optimizer: AdamW, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of AdamW's state of each of `weights`, by "name/moment"."""
    state = optimizer.state
    return {
        f"{name}/{moment}": state[tensor][moment].detach().cpu().clone()
        for name, tensor in weights.items()
        if tensor in state
        for moment in _MOMENTS
    }


@dataclass(frozen=True, eq=False)
class Training:
    """Outcome of a training; the trained routers are the trainer's `RouterWeights`.

    Attributes:
        steps: number of optimizer steps that the routers include.
        curves: one row a step, columns `CURVES`.
        stopped: why training ended early; None if it did not.
        seconds: time of all steps, those of earlier processes included.
    """

    steps: int
    curves: Tensor
    stopped: str | None
    seconds: float


@dataclass(eq=False)
class Trainer:
    """Trains the routers of `reader` on its questions: cross-entropy plus λ times `penalty`."""

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
        """Number of questions of an epoch."""
        return len(self.letters.questions.ids)

    @property
    def n_steps(self) -> int:
        """Number of steps of the whole training."""
        return self.config.schedule.epochs * math.ceil(self.n_questions / self.config.schedule.batch_size)

    def run(self, path: Path, listener: Listener) -> Training:
        """Train to the end, from the checkpoint in the file `path` if there is one; the last one remains there.

        A loss or gradient that is not finite ends the training; the routers of the last finite loss are restored.

        Raises:
            ModelError: the loss of the first step is not finite.
        """
        stored = Checkpoint.read(path)
        first, before = (stored.step, stored.seconds) if stored else (0, 0.0)
        rows = [stored.curves if stored else torch.empty(0, len(CURVES), dtype=torch.float64)]
        if stored:
            stored.restore(self._optimizer, self._weights)
            if stored.stopped or first == self.n_steps:
                return Training(stored.step, stored.curves, stored.stopped, stored.seconds)
        started = time.monotonic()
        good, finite, batch = self._copy(), True, [0]
        for step, batch in enumerate(self.batches(first), start=first):
            row = self.step(step, batch)
            finite = all(map(math.isfinite, row))
            if not finite:
                break
            good = self._copy()
            if step > first and step % self.config.schedule.save_every == 0:  # only routers whose loss is finite
                self._save(path, step, rows, None, before + time.monotonic() - started)
            rows.append(torch.tensor([row], dtype=torch.float64))
            self._optimizer.step()
            listener.progress("training", step + 1, self.n_steps, "steps")
        curves, reason = torch.cat(rows), None
        if not finite or not self._is_finite(batch):
            reason = self._restore(len(curves), good)
        steps, seconds = len(curves) - (reason is not None), before + time.monotonic() - started
        self._save(path, steps, rows, reason, seconds)
        return Training(steps, curves, reason, seconds)

    def step(self, step: int, batch: Sequence[int]) -> tuple[float, ...]:
        """Compute the gradients of one batch of questions, without changing the routers; the row of the curves."""
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
        """Cross-entropy and penalty, means over the questions."""
        reading = self.reader.read(question_B.tolist())
        loss = self.letters.losses(reading.logits_BU, question_B).mean()
        if self.penalty is None or weight == 0:
            return loss, loss.new_zeros(())
        return loss, self.penalty(reading.routing_BF, question_B)

    def batches(self, first: int) -> Iterator[list[int]]:
        """The questions of each step from `first` on; each epoch has its own order, drawn from the seed."""
        schedule, step = self.config.schedule, 0
        for epoch in range(schedule.epochs):
            generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + epoch)
            order = torch.randperm(self.n_questions, generator=generator).tolist()
            for at in range(0, self.n_questions, schedule.batch_size):
                if step >= first:
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
        """Clip the gradients; returns their norm before."""
        max_norm = self.config.schedule.max_grad_norm
        tensors = list(self._weights.values())
        return float(torch.nn.utils.clip_grad_norm_(tensors, math.inf if max_norm is None else max_norm))

    @torch.no_grad()
    def _is_finite(self, batch: Sequence[int]) -> bool:
        """Whether the current routers give these questions a finite loss."""
        question_B = torch.tensor(self.reader.groups(batch)[0])
        reading = self.reader.read(question_B.tolist())
        return bool(self.letters.losses(reading.logits_BU, question_B).isfinite().all())

    @torch.no_grad()
    def _restore(self, step: int, good: dict[str, Tensor]) -> str:
        """Copy back the routers from before the `step`-th step; returns the reason, for the user."""
        if step == 0:
            expected, received = "a finite loss of the base model", "NaN or infinity at the first step"
            raise ModelError(self.reader.tail.moe.model_id, expected=expected, received=received)
        for name, tensor in self._weights.items():
            tensor.copy_(good[name])
        return f"the loss after step {step} was not finite: training stopped, with the routers from before that step"

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._weights.items()}

    def _save(self, path: Path, step: int, rows: list[Tensor], stopped: str | None, seconds: float) -> None:
        weights = {name: tensor.cpu() for name, tensor in self._copy().items()}
        moments = moments_of(self._optimizer, self._weights)
        Checkpoint(step, weights, moments, torch.cat(rows), stopped, seconds).write(path)
