"""Coupling routers with experts: the ERC loss (arXiv 2512.23447) in any training run, with its controls."""

from turnout.coupling.attach import Coupling, couple, couple_as, coupling_of, uncouple
from turnout.coupling.baselines import NormMatchedDecay, norm_trajectory
from turnout.coupling.callback import CouplingCallback
from turnout.coupling.config import CoupleConfig
from turnout.coupling.measure import measure_coupling
from turnout.coupling.measure_config import MeasureConfig
from turnout.coupling.preparing import Preparation, preparation
from turnout.coupling.result import CouplingResult

__all__ = [
    "CoupleConfig",
    "Coupling",
    "CouplingCallback",
    "CouplingResult",
    "MeasureConfig",
    "NormMatchedDecay",
    "Preparation",
    "couple",
    "couple_as",
    "coupling_of",
    "measure_coupling",
    "norm_trajectory",
    "preparation",
    "uncouple",
]
