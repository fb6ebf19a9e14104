"""Turnout: the routing of Mixture-of-Experts language models, audited, aligned, coupled and sized.

>>> import turnout
>>> moe = turnout.load("path/to/checkpoint")
>>> audit = turnout.audit(moe, tasks="mmlu-dev", out="run")
>>> audit.frame()
"""

import importlib
from typing import TYPE_CHECKING, Any

from turnout.errors import MissingExtraError, ModelError, RecipeError, RunError, TaskError, TurnoutError
from turnout.listener import Listener

if TYPE_CHECKING:
    from turnout import ops
    from turnout.api.audit import audit
    from turnout.api.compare import compare
    from turnout.api.evaluate import evaluate
    from turnout.api.export import export
    from turnout.api.import_routed import import_routed
    from turnout.api.load import load
    from turnout.api.mask import mask
    from turnout.api.old import align, grpo, measure_coupling, plan, sweep, vote
    from turnout.api.verify import verify
    from turnout.api.write_report import write_report
    from turnout.auditing.config import AuditConfig
    from turnout.auditing.result import Audit
    from turnout.comparing.result import Comparison
    from turnout.coupling import couple, uncouple
    from turnout.evaluating.config import EvaluateConfig
    from turnout.evaluating.result import Evaluation
    from turnout.exchange.config import ImportConfig
    from turnout.exchange.importing import Imported
    from turnout.masking.config import MaskConfig
    from turnout.masking.result import Masking
    from turnout.models.wrap.anatomy import MoE, MoELayer
    from turnout.runs.result import Result
    from turnout.tasks.question import Question, TaskSet
    from turnout.upcycling import upcycle

__version__ = "0.1.0"

# Public name → module that defines it. Imported on first use, so that `import turnout` imports no torch.
_HOMES = {
    # verbs
    "align": "turnout.api.old",
    "audit": "turnout.api.audit",
    "compare": "turnout.api.compare",
    "couple": "turnout.coupling",
    "evaluate": "turnout.api.evaluate",
    "export": "turnout.api.export",
    "grpo": "turnout.api.old",
    "import_routed": "turnout.api.import_routed",
    "load": "turnout.api.load",
    "mask": "turnout.api.mask",
    "measure_coupling": "turnout.api.old",
    "plan": "turnout.api.old",
    "sweep": "turnout.api.old",
    "uncouple": "turnout.coupling",
    "upcycle": "turnout.upcycling",
    "verify": "turnout.api.verify",
    "vote": "turnout.api.old",
    "write_report": "turnout.api.write_report",
    # results
    "Audit": "turnout.auditing.result",
    "Comparison": "turnout.comparing.result",
    "Evaluation": "turnout.evaluating.result",
    "Imported": "turnout.exchange.importing",
    "Masking": "turnout.masking.result",
    "Result": "turnout.runs.result",
    # settings
    "AuditConfig": "turnout.auditing.config",
    "EvaluateConfig": "turnout.evaluating.config",
    "ImportConfig": "turnout.exchange.config",
    "MaskConfig": "turnout.masking.config",
    # models and questions
    "MoE": "turnout.models.wrap.anatomy",
    "MoELayer": "turnout.models.wrap.anatomy",
    "Question": "turnout.tasks.question",
    "TaskSet": "turnout.tasks.question",
}
__all__ = [
    "Audit",
    "AuditConfig",
    "Comparison",
    "EvaluateConfig",
    "Evaluation",
    "ImportConfig",
    "Imported",
    "Listener",
    "MaskConfig",
    "Masking",
    "MissingExtraError",
    "MoE",
    "MoELayer",
    "ModelError",
    "Question",
    "RecipeError",
    "Result",
    "RunError",
    "TaskError",
    "TaskSet",
    "TurnoutError",
    "__version__",
    "align",
    "audit",
    "compare",
    "couple",
    "evaluate",
    "export",
    "grpo",
    "import_routed",
    "load",
    "mask",
    "measure_coupling",
    "ops",
    "plan",
    "sweep",
    "uncouple",
    "upcycle",
    "verify",
    "vote",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "ops":
        return importlib.import_module("turnout.ops")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'turnout' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
