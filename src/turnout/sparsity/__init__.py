"""How sparse should the experts be, and for what: plans from a budget, after arXiv 2508.18672."""

from turnout.sparsity.config import Grid, PlanConfig
from turnout.sparsity.result import Plan
from turnout.sparsity.run import plan

__all__ = ["Grid", "Plan", "PlanConfig", "plan"]
