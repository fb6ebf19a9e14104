"""Sweep: a grid of models at one budget, each trained, tested and audited, then analyzed together."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {"SweepRecipe": "turnout.sparsity.sweep.recipe", "SweepResult": "turnout.sparsity.sweep.result"},
)
