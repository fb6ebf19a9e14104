"""Upcycle: a MoE out of a dense checkpoint, by splitting its networks or copying them; the loss it costs, stated."""

from turnout.upcycling.config import UpcycleConfig
from turnout.upcycling.result import Upcycled
from turnout.upcycling.run import upcycle

__all__ = ["UpcycleConfig", "Upcycled", "upcycle"]
