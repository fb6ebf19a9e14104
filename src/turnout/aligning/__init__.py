"""Align: train routers alone so that similar questions route alike (RoMA, arXiv 2511.07419); baselines; rerouting."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "METHODS": "turnout.aligning.config",
        "AlignConfig": "turnout.aligning.config",
        "Alignment": "turnout.aligning.result",
    },
)
