"""Turnout: the routing of Mixture-of-Experts language models, audited, aligned, coupled and sized.

>>> import turnout
>>> moe = turnout.load("path/to/checkpoint")
>>> audit = turnout.audit(moe, tasks="mmlu-dev", out="run")
>>> audit.frame()
"""

import importlib
from typing import TYPE_CHECKING, Any

from turnout.errors import TurnoutError

if TYPE_CHECKING:
    from turnout import ops
    from turnout.api.audit import audit
    from turnout.api.evaluate import evaluate
    from turnout.api.load import load
    from turnout.api.old import align, compare, grpo, mask, measure_coupling, plan, sweep, vote
    from turnout.coupling import couple, uncouple
    from turnout.upcycling import upcycle

__version__ = "0.1.0"
__all__ = [
    "TurnoutError",
    "__version__",
    "align",
    "audit",
    "compare",
    "couple",
    "evaluate",
    "grpo",
    "load",
    "mask",
    "measure_coupling",
    "ops",
    "plan",
    "sweep",
    "uncouple",
    "upcycle",
    "vote",
]

# Where each public name lives; looked up on first use, so that `import turnout` imports no torch.
_API = ("align", "compare", "grpo", "mask", "measure_coupling", "plan", "sweep", "vote")
_HOMES = {
    **dict.fromkeys(_API, "turnout.api.old"),
    **dict.fromkeys(("couple", "uncouple"), "turnout.coupling"),
    "load": "turnout.api.load",
    "audit": "turnout.api.audit",
    "evaluate": "turnout.api.evaluate",
    "upcycle": "turnout.upcycling",
}


def __getattr__(name: str) -> Any:
    if name == "ops":
        return importlib.import_module("turnout.ops")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'turnout' has no attribute {name!r}")
