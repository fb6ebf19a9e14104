"""Upcycle: a MoE out of a dense checkpoint, by splitting its networks or copying them; the loss it costs, stated."""

from turnout.aligning.upcycling.config import UpcycleConfig
from turnout.aligning.upcycling.result import Upcycled
from turnout.aligning.upcycling.run import upcycle

__all__ = ["UpcycleConfig", "Upcycled", "upcycle"]
