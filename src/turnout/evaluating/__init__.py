"""lm-evaluation-harness with routing recorded by task."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__, {"EvaluateConfig": "turnout.evaluating.config", "Evaluation": "turnout.evaluating.result"}
)
