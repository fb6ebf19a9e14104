"""Coupling routers with experts: the ERC loss (arXiv 2512.23447) in any training run, with its controls."""

from turnout.coupling.attach import Coupling, couple, couple_as, coupling_of, uncouple
from turnout.coupling.config import CoupleConfig
from turnout.coupling.measure_config import MeasureConfig
from turnout.coupling.norm_matching import NormMatchedDecay, norm_trajectory
from turnout.coupling.result import CouplingResult
from turnout.coupling.run import measure_coupling
from turnout.coupling.trainer import CouplingCallback, Preparation, preparation

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
