"""Coupling under a Trainer: the callback that logs the term, and what couples a training run."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from turnout.coupling.attach import couple_as, coupling_of
from turnout.coupling.config import CoupleConfig
from turnout.coupling.handle import Coupling, LayerFigures
from turnout.coupling.norm_matching import METRICS, NormMatchedDecay, Trajectory, norm_trajectory
from turnout.coupling.pairing import dominant
from turnout.errors import ModelError
from turnout.listener import Listener
from turnout.runs.json_files import sha256
from turnout.training.log_figures import add_to_log, go_first, named_figures

OVERHEAD = "overhead/coupling"


class CouplingCallback(TrainerCallback):  # type: ignore[misc]  # Any: transformers ships no types
    """Add a coupled model's figures to the Trainer's own logs, and set the noise to the Trainer's count of steps.

    >>> turnout.couple(model)
    >>> trainer = Trainer(model, ..., callbacks=[turnout.CouplingCallback()])  # or TRL's SFTTrainer

    With it, a training that resumes from a checkpoint draws the noise that an unbroken one would have drawn.

    Each training log gains `coupling/FIGURE`, the mean over layers, and `coupling/layer_NN/FIGURE`, of the last
    step's forward, before its update. FIGURE is `erc` (or `orthogonality`): the layer's term before weight;
    `noise_bound`: mean ε; `rows_dominant`, `columns_dominant`: share of rows (columns) of M whose diagonal is larger
    than all other entries, M being the one that the term is computed from; `router_norm`, `gate_norm`: ‖R‖_F and
    ‖W_g‖_F, the latter over all experts. `overhead/coupling` is the share of the steps' time since the last log that
    the term took, forward and backward.

    Args:
        per_layer: also log every layer's figures.

    Raises:
        ModelError: when training begins, if the model is not coupled; after a step, if no term reached the loss,
            because the trainer computes its own loss from logits (label smoothing) or log-probabilities (DPO, GRPO).
    """

    def __init__(self, per_layer: bool = True) -> None:
        self.per_layer = per_layer
        self._coupling: Coupling | None = None
        self._added, self._seconds, self._began = 0, 0.0, 0.0

    def on_train_begin(self, args: TrainingArguments, *_: Any, model: nn.Module, **__: Any) -> None:
        """Find the model's coupling, and precede the callbacks that report logs."""
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
        """Before an optimizer step's first micro-batch."""
        if self._coupling is not None:
            self._coupling.step = state.global_step
            self._coupling.watching = _will_log(args, state)
            self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """After an optimizer step: check that the loss contained the term."""
        if self._coupling is None:
            return
        self._seconds += time.perf_counter() - self._began
        if self._coupling.config.weight and self._coupling.added == self._added:
            received = "a trainer that computes its own, so that nothing was coupled"
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
        """Add the figures to a training log."""
        if self._coupling is not None and logs is not None and "loss" in logs and self._coupling.figures:
            add_to_log(self._figures(self._coupling), logs, state)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Forget the coupling; the model stays coupled."""
        self._coupling = None

    def _figures(self, coupling: Coupling) -> dict[str, float]:
        by_layer = {layer: _layer_figures(coupling.config.term, of) for layer, of in sorted(coupling.figures.items())}
        seconds, self._seconds = self._seconds, 0.0
        overhead = {OVERHEAD: coupling.stopwatch.take() / seconds} if seconds else {}
        return named_figures("coupling", by_layer, self.per_layer) | overhead


def _will_log(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether the Trainer may log after the step that begins."""
    if args.logging_strategy != "steps" or (args.logging_first_step and state.global_step == 0):
        return True
    return (state.global_step + 1) % max(int(state.logging_steps), 1) == 0


def _layer_figures(term: str, figures: LayerFigures) -> dict[str, float]:
    """A layer's figures by name; those that were not computed are left out."""
    named = {term: float(figures.term), "noise_bound": float(figures.bound_N.mean())}
    if figures.norms_NN is not None:
        norms_NN = figures.norms_NN.cpu()
        named["rows_dominant"] = float(dominant(norms_NN).float().mean())
        named["columns_dominant"] = float(dominant(norms_NN.T).float().mean())
    if figures.router_norm is not None and figures.gate_norm is not None:
        named |= {"router_norm": float(figures.router_norm), "gate_norm": float(figures.gate_norm)}
    return named


@dataclass(frozen=True)
class CoupledTraining:
    """How a training run is coupled.

    Attributes:
        config: settings of the term; None: no term.
        trajectory: norms of R and W_g that the run follows; None: none.
        inputs: JSON values that belong to what identifies the run.
    """

    config: CoupleConfig | None
    trajectory: Trajectory | None
    inputs: dict[str, object]

    @classmethod
    def of(cls, config: CoupleConfig | None, match_norms: str | Path | None) -> Self:
        """The coupling of a training run.

        Args:
            config: settings of the term; None: no term.
            match_norms: folder of a coupled run whose norms of R and W_g this run follows.

        Raises:
            RecipeError: α is a function, which a run cannot record.
            RunError: `match_norms` is no coupled run.
        """
        inputs: dict[str, object] = {} if config is None else {"erc": config.describe()}
        trajectory = None
        if match_norms is not None:
            trajectory = norm_trajectory(match_norms)
            inputs["match_norms"] = sha256(Path(match_norms) / METRICS)
        return cls(config, trajectory, inputs)

    def attach(self, model: PreTrainedModel, listener: Listener) -> list[TrainerCallback]:
        """Couple the model in place, and return the callbacks that its training needs."""
        callbacks: list[TrainerCallback] = []
        if self.config is not None:
            for line in couple_as(model, self.config).notes:
                listener.note(line)
            callbacks.append(CouplingCallback())
        return callbacks if self.trajectory is None else [*callbacks, NormMatchedDecay(self.trajectory)]
