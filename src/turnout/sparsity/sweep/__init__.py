"""A grid of models at one budget, each trained, evaluated and audited; killed sweeps and workers go on."""

from turnout.sparsity.sweep.recipe import SweepRecipe
from turnout.sparsity.sweep.result import SweepResult
from turnout.sparsity.sweep.run import sweep

__all__ = ["SweepRecipe", "SweepResult", "sweep"]
