"""The measures of a run as its audit.json describes them, for page, terminal, paper figures and comparison.

An audit writes the key `measures` (auditing/measures.py). Runs from before that key have the six measures of EARLIER.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Layer = Mapping[str, Any]

NULLS = {"floor": "floor", "rotated": "rotated", "ceiling": "permuted"}
"""Each null as pages name it → its name in audit.json."""


@dataclass(frozen=True)
class Measure:
    """One measure of a layer: its description, and its figures in a layer of audit.json."""

    name: str
    label: str
    short: str
    direction: str
    bounds: tuple[float, float]
    format: str
    floor_formula: str | None
    floor_value: float | None
    has_interval: bool
    null_paths: Mapping[str, list[str]]
    description: str

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> "Measure":
        """The measure of one entry of audit.json's `measures`."""
        floor, (least, most) = entry["floor"] or {"formula": None, "value": None}, entry["bounds"]
        return cls(
            name=entry["name"],
            label=entry["label"],
            short=entry["short"],
            direction=entry["direction"],
            bounds=(-math.inf if least is None else least, math.inf if most is None else most),
            format=entry["format"],
            floor_formula=floor["formula"],
            floor_value=floor["value"],
            has_interval=entry["interval"] is not None,
            null_paths=entry["nulls"],
            description=entry["description"],
        )

    @property
    def is_share(self) -> bool:
        """Whether its values are between 0 and 1."""
        return self.bounds == (0, 1)

    @property
    def short_format(self) -> str:
        """The number format for narrow columns: two digits for shares."""
        return ".2f" if self.is_share else self.format

    def describe(self) -> dict[str, Any]:
        """What a page's scripts need of the measure."""
        least, most = (end if math.isfinite(end) else None for end in self.bounds)
        words = {name: getattr(self, name) for name in ("name", "label", "direction", "format", "description")}
        return {**words, "bounds": [least, most], "floor": self.floor_formula}

    def figure(self, layer: Layer) -> dict[str, Any]:
        """Value, 95 % interval and nulls of one layer; None where the layer has none."""
        nulls = {name: self.null(layer, name) for name in NULLS}
        return {"value": layer[self.name], "interval": self.interval(layer), **nulls}

    def interval(self, layer: Layer) -> list[float] | None:
        """The 95 % interval, [low, high]."""
        interval = layer["intervals"].get(self.name)
        return None if interval is None else list(interval)

    def null(self, layer: Layer, name: str) -> float | None:
        """One null of NULLS: the floor, the rotated routers' 95 % quantile, or the mean over permuted domains."""
        if name == "floor" and self.floor_value is not None:
            known = layer[self.name] is not None and layer["nulls"].get("floors")
            return self.floor_value if known else None
        path = self.null_paths.get(NULLS[name])
        if path is None:
            return None
        stored: Any = layer["nulls"]
        for key in path:
            stored = (stored or {}).get(key)
        by_size = isinstance(stored, list)
        return stored[len(layer["committee"]) - 1] if by_size else stored


def measures_of(content: Mapping[str, Any]) -> list[Measure]:
    """The measures of audit.json's or a comparison's content, in the order in which they are shown."""
    return [Measure.read(entry) for entry in content.get("measures") or EARLIER]


def _earlier(name: str, label: str, short: str, direction: str, description: str, **more: Any) -> dict[str, Any]:
    default: dict[str, Any] = {"bounds": [0, 1], "format": ".3f", "floor": None, "interval": "percentile", "nulls": {}}
    return {"name": name, "label": label, "short": short, "direction": direction, "description": description} | (
        default | more
    )


EARLIER = [
    _earlier(
        "coverage",
        "Coverage",
        "coverage",
        "more of the routing goes to the committee",
        "The committee’s share of all experts’ contribution, averaged over domains.",
        floor={"formula": "|C|/E", "value": None},
        nulls={"floor": ["floors", "coverage"], "rotated": ["rotated", "coverage_of_largest_q95"]},
    ),
    _earlier(
        "coverage_topk",
        "Coverage, top K",
        "coverage top-K",
        "more of the routing goes to the committee",
        "The committee’s share of the contribution of each domain’s first K experts; about |C|/K for any router.",
        floor={"formula": "|C|/K", "value": None},
        nulls={"floor": ["floors", "coverage_topk"]},
    ),
    _earlier(
        "gini",
        "Gini",
        "Gini",
        "more concentrated on few experts",
        "Inequality of the mean contribution over all experts: 0 if all are equal, near 1 if one has everything.",
        nulls={"rotated": ["rotated", "gini", "q95"]},
    ),
    _earlier(
        "gini_topk",
        "Gini, top K",
        "Gini top-K",
        "more concentrated on few experts",
        "Gini with all but each domain’s first K experts set to 0; at least 1 − K/E for any router.",
        floor={"formula": "1 − K/E", "value": None},
        nulls={"floor": ["floors", "gini_topk"], "rotated": ["rotated", "gini_topk", "q95"]},
    ),
    _earlier(
        "jaccard_mean",
        "Jaccard",
        "Jaccard",
        "more alike across domains",
        "Overlap of two domains’ first K experts, averaged over pairs of domains.",
        nulls={"rotated": ["rotated", "jaccard_mean", "q95"], "permuted": ["domain_signal", "jaccard_ceiling"]},
    ),
    _earlier(
        "influence_ratio",
        "Influence ratio",
        "influence",
        "more of the routing goes to each committee member",
        "Contribution of a committee member over that of another expert, on average.",
        bounds=[0, None],
        format=".2f",
        floor={"formula": "1", "value": 1.0},
    ),
]
"""audit.json's `measures` of runs from before that key."""
