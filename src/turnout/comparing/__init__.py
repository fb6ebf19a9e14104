"""Compare runs: paired differences with intervals, committees and choices in common."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__, {"Comparison": "turnout.comparing.result"})
