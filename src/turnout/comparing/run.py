"""`compare`: complete runs in; what differs layer by layer, with intervals, out. No model is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from turnout.auditing.evidence.bootstrap import percentile_interval
from turnout.auditing.measures import MEASURES, Routing, describe, drawn_measures
from turnout.comparing.matching import match, rule
from turnout.comparing.overlap import agreement, same_tokens, set_overlap, stability_interval
from turnout.comparing.paired import Pair, difference_interval, drawn_contribution, pair, same_questions
from turnout.comparing.result import Comparison
from turnout.comparing.side import Side, described, differences
from turnout.errors import RunError
from turnout.progress import Progress, silent

SCHEMA = 1
_COLUMNS = ("experts", "top_k", "committee", "candidates", "fallback")


@dataclass(frozen=True, eq=False)
class _Compared:
    """One layer of the reference and its partner in one other run: for the result, and the draws [R] of each figure."""

    entry: dict[str, Any]
    drawn: dict[str, Tensor]


def compare(runs: Sequence[Path | str], *, against_last: bool = False, progress: Progress = silent) -> Comparison:
    """Set complete runs side by side: figures, committees and choices against those of one of them.

    Layers are matched by position, or by relative depth where their numbers differ. Differences carry 95 % intervals:
    paired ones where two runs asked the same questions.

    Args:
        runs: two folders of complete runs or more.
        against_last: the last run is the reference, as for router saturation along a model's checkpoints; else the
            first.
        progress: told of each layer.

    Raises:
        RunError: fewer than two runs, or one that is unfinished or damaged.
    """
    if len(runs) < 2:
        raise RunError("compare", expected="two or more runs", received=f"{len(runs)}")
    sides = [Side.read(path) for path in runs]
    at = len(sides) - 1 if against_last else 0
    others = [None if i == at else _Other.of(sides[at], side) for i, side in enumerate(sides)]
    found: list[list[_Compared | None]] = []
    for done in range(len(sides[at].layers)):
        progress("comparing", done, len(sides[at].layers), "layers")
        found.append(_layer(sides[at], others, done))
    progress("comparing", len(found), len(found), "layers")
    layers = [_entry(sides[at], others, place, row) for place, row in enumerate(found)]
    return Comparison({
        "schema": SCHEMA,
        "reference": at,
        "measures": describe(),
        "runs": [described(side) for side in sides],
        "differences": differences(sides),
        "pairs": [None if other is None else other.describe() for other in others],
        "layers": layers,
        "overall": [None if other is None else _overall([row[i] for row in found]) for i, other in enumerate(others)],
    })  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Other:
    """A run beside the reference. `apart`: why its choices cannot be compared token by token."""

    side: Side
    pair: Pair
    places: list[int]
    matched_by: str
    apart: str | None

    @classmethod
    def of(cls, reference: Side, side: Side) -> "_Other":
        numbers = reference.numbers, side.numbers
        apart = same_tokens(reference, side)
        if apart is None and not same_questions(reference, side):
            apart = "different domains"
        return cls(side, pair(reference, side), match(*numbers), rule(*numbers), apart)

    def describe(self) -> dict[str, Any]:
        return {"matched_by": self.matched_by, **self.pair.describe(), "tokens": self.apart or "the same"}


def _layer(reference: Side, others: Sequence[_Other | None], place: int) -> list[_Compared | None]:
    """One layer of the reference beside its partners; its own draws are made once for each set of resamples."""
    own: Tensor | None = None
    row: list[_Compared | None] = []
    for other in others:
        if other is not None and other.pair.resamples is not None and own is None:
            assert reference.trace is not None
            own = drawn_contribution(reference, reference.trace.layers[place], other.pair.resamples[0])
        row.append(None if other is None else _compared(reference, other, place, own))
    return row


def _compared(reference: Side, other: _Other, place: int, own_RDE: Tensor | None) -> _Compared:
    here, there = reference.layers[place], other.side.layers[other.places[place]]
    alike = (here["experts"], here["top_k"]) == (there["experts"], there["top_k"])
    drawn, shifts, steady = dict[str, Tensor](), dict[str, Any](), None
    if other.pair.resamples is not None and own_RDE is not None:
        assert other.side.trace is not None
        other_RDE = drawn_contribution(
            other.side, other.side.trace.layers[other.places[place]], other.pair.resamples[1]
        )
        one, two = _drawn_measures(here, own_RDE), _drawn_measures(there, other_RDE)
        drawn = {name: (two[name] - one[name])[1:] for name in one.keys() & two.keys()}
        if alike:
            presence = reference.config.presence
            steady = stability_interval(own_RDE[1:], here["top_k"], other_RDE[1:], there["top_k"], presence)
    for name in MEASURES:
        shifts[name] = _shift(name, here.get(name), there.get(name), drawn.get(name))
    entry: dict[str, Any] = {"differences": shifts, "overlap": None, "agreement": None}
    if alike:
        shared = set_overlap(here["committee"], there["committee"], here["experts"])
        entry["overlap"] = {**shared, "interval": steady}
    if alike and other.apart is None and other.pair.resamples is not None:
        numbers = here["layer"], there["layer"]
        entry["agreement"], drawn_R = agreement(reference, other.side, numbers, other.pair.resamples[0].counts_RS)
        drawn["agreement"] = torch.from_numpy(drawn_R)
    return _Compared(entry, drawn)


def _drawn_measures(layer: Mapping[str, Any], drawn_RDE: Tensor) -> dict[str, Tensor]:
    return drawn_measures(Routing(drawn_RDE, layer["top_k"], torch.tensor(layer["committee"])))


def _shift(name: str, here: float | None, there: float | None, drawn_R: Tensor | None) -> dict[str, Any] | None:
    if here is None or there is None:
        return None
    difference = there - here
    return {
        "difference": difference,
        "interval": None if drawn_R is None else difference_interval(MEASURES[name], drawn_R, difference),
    }


def _entry(
    reference: Side, others: Sequence[_Other | None], place: int, row: Sequence[_Compared | None]
) -> dict[str, Any]:
    """One layer of the result: every run's figures, and each one's distance from the reference's."""
    partners = [
        reference.layers[place] if other is None else other.side.layers[other.places[place]] for other in others
    ]
    return {
        "layer": reference.layers[place]["layer"],
        "matched": [partner["layer"] for partner in partners],
        **{column: [partner[column] for partner in partners] for column in _COLUMNS},
        **{name: [partner.get(name) for partner in partners] for name in MEASURES},
        "verdict": [(partner["claim"] or {}).get("verdict") for partner in partners],
        "differences": {
            name: [None if found is None else found.entry["differences"][name] for found in row] for name in MEASURES
        },
        **{name: [None if found is None else found.entry[name] for found in row] for name in ("overlap", "agreement")},
    }


def _overall(column: Sequence[_Compared | None]) -> dict[str, Any]:
    """Means over layers: of the differences and of the agreement, with intervals from the layers' common resamples."""
    found = [of for of in column if of is not None]
    shifts: dict[str, Any] = {}
    for name in MEASURES:
        known = [of for of in found if of.entry["differences"][name] is not None]
        if not known:
            shifts[name] = None
            continue
        difference = sum(of.entry["differences"][name]["difference"] for of in known) / len(known)
        draws = [of.drawn[name] for of in known if name in of.drawn]
        bounds = (
            difference_interval(MEASURES[name], torch.stack(draws).mean(0), difference)
            if len(draws) == len(known)
            else None
        )
        shifts[name] = {"difference": difference, "interval": bounds, "layers": len(known)}
    return {"differences": shifts, "agreement": _mean_agreement(found)}


def _mean_agreement(found: Sequence[_Compared]) -> dict[str, Any] | None:
    known = [of for of in found if of.entry["agreement"] is not None]
    if not known:
        return None
    means = {
        name: sum(of.entry["agreement"][name] for of in known) / len(known) for name in ("value", "chance", "by_load")
    }
    drawn_R = torch.stack([of.drawn["agreement"] for of in known]).mean(0)
    return {**means, "interval": list(percentile_interval(drawn_R)), "layers": len(known)}
