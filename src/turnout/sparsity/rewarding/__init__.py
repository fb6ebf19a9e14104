"""GRPO with a parsed final answer for a reward, before and after."""

from turnout.sparsity.rewarding.config import GrpoConfig
from turnout.sparsity.rewarding.result import Rewarded
from turnout.sparsity.rewarding.run import grpo

__all__ = ["GrpoConfig", "Rewarded", "grpo"]
