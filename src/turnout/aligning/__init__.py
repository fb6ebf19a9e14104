"""Align: only routers are trained, so that like questions route alike (RoMA, arXiv 2511.07419), beside baselines."""

from turnout.aligning.config import METHODS, AlignConfig
from turnout.aligning.merging import merge
from turnout.aligning.result import Alignment
from turnout.aligning.run import align

__all__ = ["METHODS", "AlignConfig", "Alignment", "align", "merge"]
