"""Model families that need an entry: departures from the common form of a router, and this package's own types.

The common form: a router returns (logits [T, E], weights [T, K], indices [T, K]), and the weights are proportional,
token by token, to the scores of the chosen experts, softmax or sigmoid of the logits. Which of the two is read from
the router's output; a family of the common form has no entry. A router may also return its scores in place of logits.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Literal

Scoring = Literal["softmax", "sigmoid", "scores"]
"""The function from what a router returns first to its scores; "scores": it returns them, and none is applied."""


@dataclass(frozen=True)
class Departure:
    """The scoring of one family (a configuration's `model_type`) that departs from the common form, and the reason."""

    scoring: Scoring
    why: str


DEPARTURES: dict[str, Departure] = {
    "phimoe": Departure(
        scoring="softmax",
        why="SparseMixer (arXiv 2409.12136) picks two experts one after the other, each weight a softmax over the "
        "logits near the largest one left, so the two weights are not proportional to one softmax",
    ),
}

OWN = {"turnout_aoe": "turnout.models.aoe"}
"""`model_type` → the package that registers it when imported."""


def register_own(model_type: object = None) -> None:
    """Register `model_type` with transformers if it is one of `OWN`; None registers all of them."""
    for own, package in OWN.items():
        if model_type in (None, own):
            import_module(package)
