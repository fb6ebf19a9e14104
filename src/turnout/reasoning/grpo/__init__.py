"""GRPO with a parsed final answer for a reward, before and after."""

from turnout.reasoning.grpo.config import GrpoConfig
from turnout.reasoning.grpo.result import Rewarded
from turnout.reasoning.grpo.run import grpo

__all__ = ["GrpoConfig", "Rewarded", "grpo"]
