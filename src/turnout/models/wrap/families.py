"""Departures from the common form of a router, and model types of this package's own."""

from dataclasses import dataclass
from importlib import import_module
from typing import Literal

Scoring = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Departure:
    """How one family (a configuration's `model_type`) departs from the common form, and why."""

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
    """Register `model_type` with transformers if it is of this package's own; None registers all that are."""
    for own, package in OWN.items():
        if model_type in (None, own):
            import_module(package)
