"""Sparsity of the experts: plans from a budget, and sweeps that train and compare (arXiv 2508.18672)."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Grid": "turnout.sparsity.config",
        "Plan": "turnout.sparsity.result",
        "PlanConfig": "turnout.sparsity.config",
        "SweepRecipe": "turnout.sparsity.sweep.recipe",
        "SweepResult": "turnout.sparsity.sweep.result",
    },
)
