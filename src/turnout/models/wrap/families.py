"""What departs from the common form of a router; a family that keeps it has no entry.

The common form: a router returns (logits [T, E], weights [T, K], indices [T, K]), and the weights are proportional,
token by token, to the scores of the chosen experts, softmax or sigmoid of the logits. Which of the two is read from
what the router returns, not from here.
"""

from dataclasses import dataclass
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
