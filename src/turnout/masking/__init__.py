"""Masking: what a committee is worth, measured by asking again without it, against matched controls."""

from turnout.masking.config import MaskConfig, MaskPlan
from turnout.masking.result import Masking
from turnout.masking.run import mask, mask_plan

__all__ = ["MaskConfig", "MaskPlan", "Masking", "mask", "mask_plan"]
