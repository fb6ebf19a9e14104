"""Compare runs: paired differences with intervals, committees and choices in common."""

from turnout.comparing.result import Comparison
from turnout.comparing.run import compare

__all__ = ["Comparison", "compare"]
