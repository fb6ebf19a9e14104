"""Differences between complete runs, layer by layer, with intervals; no model is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from turnout.auditing.evidence.bootstrap import percentile_interval
from turnout.auditing.measures import MEASURES, Measure, Routing, describe, drawn_measures
from turnout.comparing.overlap import agreement, set_overlap, stability_interval, token_mismatch
from turnout.comparing.paired import Pair, difference_interval, drawn_contribution, pair, same_questions
from turnout.comparing.result import Comparison
from turnout.comparing.side import Side, described, differences, match, rule
from turnout.errors import RunError
from turnout.listener import Listener

SCHEMA = 1
_COLUMNS = ("experts", "top_k", "committee", "candidates", "fallback")


@dataclass(frozen=True, eq=False)
class _Compared:
    """One layer of the reference and its partner: the entry of the result, and the draws [R] of each difference."""

    entry: dict[str, Any]
    drawn: dict[str, Tensor]


def run(runs: Sequence[Path | str], against_last: bool, listener: Listener) -> Comparison:
    """Compare complete runs: figures, committees and choices against those of a reference run.

    Layers are matched by position, or by relative depth if their numbers differ. Differences have 95 % intervals,
    paired ones for runs on the same questions.

    Args:
        runs: two or more folders of complete runs.
        against_last: the last run is the reference, as for router saturation along a model's checkpoints; else the
            first.
        listener: receives progress, once a layer.

    Raises:
        RunError: fewer than two runs, or one that is unfinished or damaged.
    """
    if len(runs) < 2:
        raise RunError("compare", expected="two or more runs", received=f"{len(runs)}")
    sides = [Side.read(path) for path in runs]
    at = len(sides) - 1 if against_last else 0
    others = [None if i == at else _Other.of(sides[at], side) for i, side in enumerate(sides)]
    rows: list[list[_Compared | None]] = []
    for done in range(len(sides[at].layers)):
        listener.progress("comparing", done, len(sides[at].layers), "layers")
        rows.append(_layer(sides[at], others, done))
    listener.progress("comparing", len(rows), len(rows), "layers")
    layers = [_entry(sides[at], others, place, row) for place, row in enumerate(rows)]
    return Comparison({
        "schema": SCHEMA,
        "reference": at,
        "measures": describe(),
        "runs": [described(side) for side in sides],
        "differences": differences(sides),
        "pairs": [None if other is None else other.describe() for other in others],
        "layers": layers,
        "overall": [None if other is None else _overall([row[i] for row in rows]) for i, other in enumerate(others)],
    })  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Other:
    """A run other than the reference; `incomparable` is the reason why its choices cannot be compared by token."""

    side: Side
    pair: Pair
    places: list[int]
    matched_by: str
    incomparable: str | None

    @classmethod
    def of(cls, reference: Side, side: Side) -> "_Other":
        numbers = reference.numbers, side.numbers
        incomparable = token_mismatch(reference, side)
        if incomparable is None and not same_questions(reference, side):
            incomparable = "different domains"
        return cls(side, pair(reference, side), match(*numbers), rule(*numbers), incomparable)

    def describe(self) -> dict[str, Any]:
        return {"matched_by": self.matched_by, **self.pair.describe(), "tokens": self.incomparable or "the same"}


def _layer(reference: Side, others: Sequence[_Other | None], place: int) -> list[_Compared | None]:
    """One layer of the reference with its partners; the reference is resampled once, for all of them."""
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
    same_shape = (here["experts"], here["top_k"]) == (there["experts"], there["top_k"])
    drawn, shifts, stability = dict[str, Tensor](), dict[str, Any](), None
    if other.pair.resamples is not None and own_RDE is not None:
        assert other.side.trace is not None
        other_RDE = drawn_contribution(
            other.side, other.side.trace.layers[other.places[place]], other.pair.resamples[1]
        )
        one, two = _drawn_measures(here, own_RDE), _drawn_measures(there, other_RDE)
        drawn = {name: (two[name] - one[name])[1:] for name in one.keys() & two.keys()}
        if same_shape:
            presence = reference.config.presence
            stability = stability_interval(own_RDE[1:], here["top_k"], other_RDE[1:], there["top_k"], presence)
    for name in MEASURES:
        shifts[name] = _difference(name, here.get(name), there.get(name), drawn.get(name))
    entry: dict[str, Any] = {"differences": shifts, "overlap": None, "agreement": None}
    if same_shape:
        shared = set_overlap(here["committee"], there["committee"], here["experts"])
        entry["overlap"] = {**shared, "interval": stability}
    if same_shape and other.incomparable is None and other.pair.resamples is not None:
        numbers = here["layer"], there["layer"]
        entry["agreement"], drawn_R = agreement(reference, other.side, numbers, other.pair.resamples[0].counts_RS)
        drawn["agreement"] = torch.from_numpy(drawn_R)
    return _Compared(entry, drawn)


def _drawn_measures(layer: Mapping[str, Any], drawn_RDE: Tensor) -> dict[str, Tensor]:
    return drawn_measures(Routing(drawn_RDE, layer["top_k"], torch.tensor(layer["committee"])))


def _difference(name: str, here: float | None, there: float | None, drawn_R: Tensor | None) -> dict[str, Any] | None:
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
    """One layer of the result: the figures of every run, and their differences from the reference."""
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
            name: [None if one is None else one.entry["differences"][name] for one in row] for name in MEASURES
        },
        **{name: [None if one is None else one.entry[name] for one in row] for name in ("overlap", "agreement")},
    }


def _overall(column: Sequence[_Compared | None]) -> dict[str, Any]:
    """Mean differences and mean agreement over layers, with intervals from the resamples that the layers share."""
    compared = [one for one in column if one is not None]
    means = {name: _mean_difference(measure, compared) for name, measure in MEASURES.items()}
    return {"differences": means, "agreement": _mean_agreement(compared)}


def _mean_difference(measure: Measure, compared: Sequence[_Compared]) -> dict[str, Any] | None:
    known = [one for one in compared if one.entry["differences"][measure.name] is not None]
    if not known:
        return None
    difference = sum(one.entry["differences"][measure.name]["difference"] for one in known) / len(known)
    draws = [one.drawn[measure.name] for one in known if measure.name in one.drawn]
    complete = len(draws) == len(known)
    bounds = difference_interval(measure, torch.stack(draws).mean(0), difference) if complete else None
    return {"difference": difference, "interval": bounds, "layers": len(known)}


def _mean_agreement(compared: Sequence[_Compared]) -> dict[str, Any] | None:
    known = [one for one in compared if one.entry["agreement"] is not None]
    if not known:
        return None
    parts = ("value", "chance", "by_load")
    means = {name: sum(one.entry["agreement"][name] for one in known) / len(known) for name in parts}
    drawn_R = torch.stack([one.drawn["agreement"] for one in known]).mean(0)
    return {**means, "interval": list(percentile_interval(drawn_R)), "layers": len(known)}
