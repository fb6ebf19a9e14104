"""Turnout: the routing of Mixture-of-Experts language models, audited, aligned, coupled and sized.

>>> import turnout
>>> moe = turnout.load("path/to/checkpoint")
>>> audit = turnout.audit(moe, tasks="mmlu-dev", out="run")
>>> audit.frame()
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnout import ops
    from turnout.aligning.config import AlignConfig
    from turnout.aligning.result import Alignment
    from turnout.api.align import align
    from turnout.api.audit import audit
    from turnout.api.compare import compare
    from turnout.api.couple import couple, uncouple
    from turnout.api.evaluate import evaluate
    from turnout.api.export import export
    from turnout.api.grpo import grpo
    from turnout.api.import_routed import import_routed
    from turnout.api.load import load
    from turnout.api.mask import mask
    from turnout.api.measure_coupling import measure_coupling
    from turnout.api.merge import merge
    from turnout.api.plan import plan
    from turnout.api.sweep import sweep
    from turnout.api.train import train
    from turnout.api.upcycle import upcycle
    from turnout.api.verify import verify
    from turnout.api.vote import vote
    from turnout.api.write_report import write_report
    from turnout.auditing.config import AuditConfig
    from turnout.auditing.result import Audit
    from turnout.comparing.result import Comparison
    from turnout.coupling.config import CoupleConfig, MeasureConfig
    from turnout.coupling.norm_matching import NormMatchedDecay
    from turnout.coupling.result import CouplingResult
    from turnout.coupling.trainer import CouplingCallback
    from turnout.errors import MissingExtraError, ModelError, RecipeError, RunError, TaskError, TurnoutError
    from turnout.evaluating.config import EvaluateConfig
    from turnout.evaluating.result import Evaluation
    from turnout.exchange.config import ImportConfig
    from turnout.exchange.importing import Imported
    from turnout.listener import Listener
    from turnout.masking.config import MaskConfig
    from turnout.masking.result import Masking
    from turnout.models.wrap.anatomy import MoE, MoELayer
    from turnout.reasoning.grpo.config import GrpoConfig
    from turnout.reasoning.grpo.result import GrpoResult
    from turnout.reasoning.vote.config import VoteConfig
    from turnout.reasoning.vote.result import VoteResult
    from turnout.runs.result import Result
    from turnout.sparsity.config import PlanConfig
    from turnout.sparsity.result import Plan
    from turnout.sparsity.sweep.recipe import SweepRecipe
    from turnout.sparsity.sweep.result import SweepResult
    from turnout.tasks.question import Question, TaskSet
    from turnout.training.recipe import TrainRecipe
    from turnout.training.result import TrainResult
    from turnout.training.routing_callback import RoutingCallback
    from turnout.upcycling.config import UpcycleConfig
    from turnout.upcycling.result import Upcycled

__version__ = "0.1.0"

PUBLIC = {
    "Verbs": {
        "load": "turnout.api.load",
        "audit": "turnout.api.audit",
        "write_report": "turnout.api.write_report",
        "mask": "turnout.api.mask",
        "compare": "turnout.api.compare",
        "evaluate": "turnout.api.evaluate",
        "import_routed": "turnout.api.import_routed",
        "export": "turnout.api.export",
        "verify": "turnout.api.verify",
        "align": "turnout.api.align",
        "merge": "turnout.api.merge",
        "upcycle": "turnout.api.upcycle",
        "couple": "turnout.api.couple",
        "uncouple": "turnout.api.couple",
        "measure_coupling": "turnout.api.measure_coupling",
        "train": "turnout.api.train",
        "plan": "turnout.api.plan",
        "sweep": "turnout.api.sweep",
        "grpo": "turnout.api.grpo",
        "vote": "turnout.api.vote",
    },
    "Results": {
        "Result": "turnout.runs.result",
        "Audit": "turnout.auditing.result",
        "Masking": "turnout.masking.result",
        "Comparison": "turnout.comparing.result",
        "Evaluation": "turnout.evaluating.result",
        "Imported": "turnout.exchange.importing",
        "Alignment": "turnout.aligning.result",
        "Upcycled": "turnout.upcycling.result",
        "CouplingResult": "turnout.coupling.result",
        "TrainResult": "turnout.training.result",
        "Plan": "turnout.sparsity.result",
        "SweepResult": "turnout.sparsity.sweep.result",
        "GrpoResult": "turnout.reasoning.grpo.result",
        "VoteResult": "turnout.reasoning.vote.result",
    },
    "Settings": {
        "AuditConfig": "turnout.auditing.config",
        "MaskConfig": "turnout.masking.config",
        "EvaluateConfig": "turnout.evaluating.config",
        "ImportConfig": "turnout.exchange.config",
        "AlignConfig": "turnout.aligning.config",
        "UpcycleConfig": "turnout.upcycling.config",
        "CoupleConfig": "turnout.coupling.config",
        "MeasureConfig": "turnout.coupling.config",
        "TrainRecipe": "turnout.training.recipe",
        "PlanConfig": "turnout.sparsity.config",
        "SweepRecipe": "turnout.sparsity.sweep.recipe",
        "GrpoConfig": "turnout.reasoning.grpo.config",
        "VoteConfig": "turnout.reasoning.vote.config",
    },
    "Training": {
        "RoutingCallback": "turnout.training.routing_callback",
        "CouplingCallback": "turnout.coupling.trainer",
        "NormMatchedDecay": "turnout.coupling.norm_matching",
    },
    "Models and questions": {
        "MoE": "turnout.models.wrap.anatomy",
        "MoELayer": "turnout.models.wrap.anatomy",
        "Question": "turnout.tasks.question",
        "TaskSet": "turnout.tasks.question",
    },
    "Progress and errors": {
        "Listener": "turnout.listener",
        "TurnoutError": "turnout.errors",
        "ModelError": "turnout.errors",
        "TaskError": "turnout.errors",
        "RunError": "turnout.errors",
        "RecipeError": "turnout.errors",
        "MissingExtraError": "turnout.errors",
    },
}
"""Sections of the Python reference: public name → module that defines it, imported on first use (no torch before)."""

_HOMES = {name: home for names in PUBLIC.values() for name, home in names.items()}
__all__ = [
    "AlignConfig",
    "Alignment",
    "Audit",
    "AuditConfig",
    "Comparison",
    "CoupleConfig",
    "CouplingCallback",
    "CouplingResult",
    "EvaluateConfig",
    "Evaluation",
    "GrpoConfig",
    "GrpoResult",
    "ImportConfig",
    "Imported",
    "Listener",
    "MaskConfig",
    "Masking",
    "MeasureConfig",
    "MissingExtraError",
    "MoE",
    "MoELayer",
    "ModelError",
    "NormMatchedDecay",
    "Plan",
    "PlanConfig",
    "Question",
    "RecipeError",
    "Result",
    "RoutingCallback",
    "RunError",
    "SweepRecipe",
    "SweepResult",
    "TaskError",
    "TaskSet",
    "TrainRecipe",
    "TrainResult",
    "TurnoutError",
    "UpcycleConfig",
    "Upcycled",
    "VoteConfig",
    "VoteResult",
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
    "merge",
    "ops",
    "plan",
    "sweep",
    "train",
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
