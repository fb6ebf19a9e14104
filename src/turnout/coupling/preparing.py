"""What `turnout.training.train` needs to train a coupled model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainerCallback

from turnout.coupling.attach import couple_as
from turnout.coupling.baselines import NormMatchedDecay, norm_trajectory
from turnout.coupling.callback import CouplingCallback
from turnout.coupling.config import CoupleConfig
from turnout.runs.json_files import sha256


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
