"""What each method adds to the cross-entropy: a penalty on a batch's routing."""

from collections.abc import Callable, Mapping

from turnout.aligning.config import Method
from turnout.aligning.methods import penalties, targets
from turnout.aligning.methods.setting import Penalty, Setting

_TARGETS: Mapping[Method, Callable[[Setting], targets.Targets]] = {
    "roma": targets.nearest,
    "no-success-filter": targets.nearest,
    "random-neighbours": targets.random_neighbours,
    "permuted-targets": targets.permuted,
    "domain-mean": targets.domain_mean,
}
_PENALTIES: Mapping[Method, Callable[[Setting], Penalty]] = {
    "l1": penalties.l1,
    "l2": penalties.l2,
    "entropy": penalties.entropy,
}


def filters(method: Method) -> bool:
    """Whether only questions that the base model answers right may be neighbours."""
    return method != "no-success-filter"


def penalty(method: Method, setting: Setting) -> Penalty | None:
    """The penalty of `method`; None for router tuning, which has none."""
    if method in _TARGETS:
        return targets.Manifold(_TARGETS[method](setting))
    return _PENALTIES[method](setting) if method in _PENALTIES else None


__all__ = ["Penalty", "Setting", "filters", "penalty"]
