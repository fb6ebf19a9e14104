"""Coupling under a Trainer: what couples a training run, and the callback that logs the term."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from turnout.coupling.attach import Coupling, LayerFigures, couple_as, coupling_of
from turnout.coupling.config import CoupleConfig
from turnout.coupling.norm_matching import NormMatchedDecay, norm_trajectory
from turnout.coupling.pairing import dominant
from turnout.errors import ModelError
from turnout.runs.json_files import sha256
from turnout.training.callback_order import go_first

OVERHEAD = "overhead/coupling"


class CouplingCallback(TrainerCallback):  # type: ignore[misc]  # Any: transformers ships no types
    """Adds a coupled model's figures to the Trainer's own logs, and gives the noise the Trainer's count of steps.

    >>> turnout.couple(model)
    >>> trainer = Trainer(model, ..., callbacks=[CouplingCallback()])  # or TRL's SFTTrainer

    With it, a training that resumes from a checkpoint draws the noise that an unbroken one would have drawn.

    Each training log gains `coupling/FIGURE`, the mean over layers, and `coupling/layer_NN/FIGURE`, of the last
    step's forward, before its update. FIGURE is `erc` (or `orthogonality`): the layer's term before weight;
    `noise_bound`: mean ε; `rows_dominant`, `columns_dominant`: share of rows (columns) of M whose diagonal is larger
    than all others, M being the one that the term is made of; `router_norm`, `gate_norm`: ‖R‖_F and ‖W_g‖_F, the latter
    over all experts.
    `overhead/coupling` is the share of the steps' time, since the last log, that the term took, forward and backward.

    Args:
        per_layer: also log every layer's figures.

    Raises:
        ModelError: when training begins, if the model is not coupled; after a step, if no term reached the loss, as
            where a trainer makes a loss of its own from logits (label smoothing) or log-probabilities (DPO, GRPO).
    """

    def __init__(self, per_layer: bool = True) -> None:
        self.per_layer = per_layer
        self._coupling: Coupling | None = None
        self._added, self._seconds, self._began = 0, 0.0, 0.0

    def on_train_begin(self, args: TrainingArguments, *_: Any, model: nn.Module, **__: Any) -> None:
        """Find the model's coupling, and step before the callbacks that report logs."""
        self._coupling = coupling_of(model)
        if self._coupling is None:
            raise ModelError("CouplingCallback", expected="a coupled model", received="one that is not", do="couple it")
        if getattr(args, "loss_type", None) == "dft":
            received = "loss_type='dft', which weighs each label's loss by its probability"
            raise ModelError("CouplingCallback", expected="a loss that the term can be added to", received=received)
        self._added, self._seconds = self._coupling.added, 0.0
        self._coupling.stopwatch.take()
        go_first(self)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Before an optimiser step's first micro-batch."""
        if self._coupling is not None:
            self._coupling.step = state.global_step
            self._coupling.watching = _will_log(args, state)
            self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """After an optimiser step: the loss must have had the term."""
        if self._coupling is None:
            return
        self._seconds += time.perf_counter() - self._began
        if self._coupling.config.weight and self._coupling.added == self._added:
            received = "a trainer that makes its own, so that nothing was coupled"
            raise ModelError(
                "CouplingCallback", expected="training on the loss that the model returns", received=received
            )
        self._added = self._coupling.added

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Add the figures to a training log, and to the state's history of it, which was written before this call."""
        if self._coupling is None or logs is None or "loss" not in logs or not self._coupling.figures:
            return
        figures = self._figures(self._coupling)
        logs.update(figures)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(figures)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """The model stays coupled."""
        self._coupling = None

    def _figures(self, coupling: Coupling) -> dict[str, float]:
        by_layer = {layer: _numbers(coupling.config.term, of) for layer, of in sorted(coupling.figures.items())}
        names = next(iter(by_layer.values()))
        mean = {f"coupling/{name}": sum(of[name] for of in by_layer.values()) / len(by_layer) for name in names}
        width = len(str(max(by_layer)))
        every = {
            f"coupling/layer_{layer:0{width}}/{name}": of[name] for layer, of in by_layer.items() for name in names
        }
        seconds, self._seconds = self._seconds, 0.0
        overhead = {OVERHEAD: coupling.stopwatch.take() / seconds} if seconds else {}
        return mean | (every if self.per_layer else {}) | overhead


def _will_log(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether the Trainer may log after the step that begins."""
    if args.logging_strategy != "steps" or (args.logging_first_step and state.global_step == 0):
        return True
    return (state.global_step + 1) % max(int(state.logging_steps), 1) == 0


def _numbers(term: str, figures: LayerFigures) -> dict[str, float]:
    """A layer's figures by name; what was not noted is left out."""
    found = {term: float(figures.term), "noise_bound": float(figures.bound_N.mean())}
    if figures.norms_NN is not None:
        norms_NN = figures.norms_NN.cpu()
        found["rows_dominant"] = float(dominant(norms_NN).float().mean())
        found["columns_dominant"] = float(dominant(norms_NN.T).float().mean())
    if figures.router_norm is not None and figures.gate_norm is not None:
        found |= {"router_norm": float(figures.router_norm), "gate_norm": float(figures.gate_norm)}
    return found


@dataclass(frozen=True)
class Preparation:
    """Arguments of `train`.

    Attributes:
        prepare: couples a model and returns the callbacks that this takes.
        inputs: JSON values for the run's inputs.json.
    """

    prepare: Callable[[PreTrainedModel], list[TrainerCallback]]
    inputs: dict[str, object]


def preparation(
    config: CoupleConfig | None = None,
    match_norms: str | Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Preparation:
    """How a training is coupled.

    >>> coupled = preparation(CoupleConfig(alpha=1.0, weight=10.0))
    >>> train(recipe, out, prepare=coupled.prepare, inputs=coupled.inputs)

    Args:
        config: the term; None adds none.
        match_norms: the folder of a run that was trained coupled, whose norms of R and W_g this one follows.
        note: hears what a user should know of the model.

    Raises:
        RecipeError: α is a function, which a run cannot record.
        RunError: `match_norms` is no coupled run.
    """
    inputs: dict[str, object] = {} if config is None else {"erc": config.to_dict()}
    trajectory = None
    if match_norms is not None:
        trajectory = norm_trajectory(match_norms)
        inputs["match_norms"] = sha256(Path(match_norms) / "tables" / "metrics.parquet")

    def prepare(model: Any) -> list[TrainerCallback]:
        callbacks: list[TrainerCallback] = []
        if config is not None:
            for line in couple_as(model, config).notes:
                note(line)
            callbacks.append(CouplingCallback())
        return callbacks if trajectory is None else [*callbacks, NormMatchedDecay(trajectory)]

    return Preparation(prepare, inputs)
