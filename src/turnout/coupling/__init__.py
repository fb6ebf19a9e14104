"""Coupling of routers with experts (ERC loss, arXiv 2512.23447): measured in a model, or trained, with controls."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CoupleConfig": "turnout.coupling.config",
        "Coupling": "turnout.coupling.handle",
        "CouplingCallback": "turnout.coupling.trainer",
        "CouplingResult": "turnout.coupling.result",
        "MeasureConfig": "turnout.coupling.config",
        "NormMatchedDecay": "turnout.coupling.norm_matching",
        "couple": "turnout.api.couple",
        "coupling_of": "turnout.coupling.attach",
        "measure_coupling": "turnout.api.measure_coupling",
        "norm_trajectory": "turnout.coupling.norm_matching",
        "uncouple": "turnout.api.couple",
    },
)
