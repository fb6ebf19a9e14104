"""Evaluate: lm-evaluation-harness's own results, and which experts read its prompts."""

from turnout.evaluating.config import EvaluateConfig
from turnout.evaluating.result import Evaluation
from turnout.evaluating.run import Recorder, evaluate

__all__ = ["EvaluateConfig", "Evaluation", "Recorder", "evaluate"]
