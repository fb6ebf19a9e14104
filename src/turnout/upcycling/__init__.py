"""Upcycle: a MoE from a dense checkpoint, by splitting or copying its feed-forward networks; the loss that it costs."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__, {"UpcycleConfig": "turnout.upcycling.config", "Upcycled": "turnout.upcycling.result"}
)
