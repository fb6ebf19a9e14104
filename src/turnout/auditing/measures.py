"""The table of measures of a layer: formula, floor, interval, nulls and labels of each, once.

`figures` computes the measures, `evidence` adds intervals and nulls, `budgets` follows some of them over K, `comparing`
takes differences between runs. audit.json holds their descriptions for all that reads a run without torch: page,
terminal, paper figures, export. To add a measure: a formula in `ops`, an entry here, a line in docs/reference.

Shapes: *R any leading dimensions (resamples, draws of a null), D domains, E routed experts, M committee members.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from turnout import ops


@dataclass(frozen=True, eq=False)
class Routing:
    """What a layer's measures are computed from.

    `members`, the committee, is empty under nulls that have no committee.
    """

    contribution_DE: Tensor
    """[*R, D, E]."""
    k: int
    members: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    """int64 [M]."""

    @property
    def size(self) -> int:
        """|C|, the number of members."""
        return len(self.members)

    @property
    def n_experts(self) -> int:
        """E."""
        return self.contribution_DE.shape[-1]


@dataclass(frozen=True)
class Floor:
    """Value of a measure for a router that treats all experts alike.

    `value` is a function of E, K and |C|, or one number for all layers; `formula` is how it is written.
    """

    formula: str
    value: Callable[[Routing], float] | float


@dataclass(frozen=True)
class Derived:
    """The interval of a measure that rises with another one alone: the other's interval, transformed.

    `transform` gives this measure for a value of `source` (the other's name), |C| and E.
    """

    source: str
    transform: Callable[[float, int, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure of a layer."""

    name: str
    """Key in audit.json and column of `Audit.frame()`."""
    label: str
    """Name in titles of page, terminal and figures."""
    short: str
    """Name in narrow columns."""
    unit: str
    """What the number counts."""
    direction: str
    """What a higher value means."""
    description: str
    """One sentence, with its source."""
    compute: Callable[[Routing], Tensor]
    """[*R] for contributions [*R, D, E]; not finite where undefined."""
    defined: Callable[[Tensor], Tensor]
    """Contributions [*R, D, E] → bool [*R]: whether `compute` accepts them."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Least and greatest possible value."""
    format: str = ".3f"
    """Number format, as Python and d3 write it."""
    floor: Floor | None = None
    """Value for a router without structure, where there is one."""
    interval: Literal["percentile", "debiased"] | Derived | None = None
    """The middle 95 % of resamples; the same less twice their bias, within `bounds`; or derived from another's."""
    of_committee: bool = False
    """Whether the measure depends on the members."""
    rotated: bool = False
    """Whether it is computed under the rotated-router null."""
    rotated_by_size: Callable[[Tensor], Tensor] | None = None
    """The same for a measure of the committee: draws [P, D, E] → [P, E], the most that any m experts reach, m = 1…E."""
    permuted: str | None = None
    """Prefix of the keys of its null of permuted domains (PREFIX_ceiling, PREFIX_ratio), where it has one."""
    by_budget: bool = False
    """Whether a budget sweep follows it over K."""

    def __post_init__(self) -> None:
        # A draw of these nulls has no committee.
        assert not (self.of_committee and (self.rotated or self.permuted)), self.name

    def values(self, routing: Routing) -> Tensor:
        """The measure [*R] of contributions [*R, D, E]; NaN where it is undefined."""
        contribution_DE = routing.contribution_DE
        defined_R = self.defined(contribution_DE)
        if bool(defined_R.all()):
            return _finite(self.compute(routing))
        value_R = contribution_DE.new_full(contribution_DE.shape[:-2], math.nan)
        if bool(defined_R.any()):
            value_R[defined_R] = _finite(self.compute(replace(routing, contribution_DE=contribution_DE[defined_R])))
        return value_R

    def describe(self) -> dict[str, Any]:
        """The entry of audit.json's `measures`."""
        floor, (least, most) = self.floor, (end if math.isfinite(end) else None for end in self.bounds)
        constant = None if floor is None or callable(floor.value) else floor.value
        return {
            "name": self.name,
            "label": self.label,
            "short": self.short,
            "unit": self.unit,
            "direction": self.direction,
            "bounds": [least, most],
            "format": self.format,
            "floor": None if floor is None else {"formula": floor.formula, "value": constant},
            "interval": "derived" if isinstance(self.interval, Derived) else self.interval,
            "nulls": self._null_paths(),
            "description": self.description,
        }

    def _null_paths(self) -> dict[str, list[str]]:
        """Where a layer's `nulls` hold each null of the measure; a list there has an entry for each size |C|."""
        paths = {
            "floor": ["floors", self.name] if self.floor is not None and callable(self.floor.value) else None,
            "rotated": ["rotated", self.name, "q95"] if self.rotated else None,
            "permuted": ["domain_signal", f"{self.permuted}_ceiling"] if self.permuted else None,
        }
        if self.rotated_by_size is not None:
            paths["rotated"] = ["rotated", f"{self.name}_of_largest_q95"]
        return {null: path for null, path in paths.items() if path is not None}


def describe() -> list[dict[str, Any]]:
    """audit.json's `measures`: every measure of the table, in order."""
    return [measure.describe() for measure in MEASURES.values()]


def layer_measures(routing: Routing) -> dict[str, float | None]:
    """Every measure of one layer's contributions [D, E]; None where it is undefined."""
    values = {name: measure.values(routing).item() for name, measure in MEASURES.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def drawn_measures(drawn: Routing) -> dict[str, Tensor]:
    """Every measure [R] that is defined in all draws [R, D, E]; empty where a domain has no contribution in a draw."""
    if not bool((drawn.contribution_DE.sum(-1) > 0).all()):
        return {}
    values = {name: measure.values(drawn) for name, measure in MEASURES.items()}
    return {name: value_R for name, value_R in values.items() if not bool(value_R.isnan().any())}


def floors(routing: Routing) -> dict[str, float]:
    """The floors that depend on E, K and |C| of a layer."""
    values = {name: measure.floor.value for name, measure in MEASURES.items() if measure.floor is not None}
    return {name: value(routing) for name, value in values.items() if callable(value)}


def _any_domain(contribution_DE: Tensor) -> Tensor:
    """Whether some domain has any contribution."""
    return (contribution_DE.sum(-1) > 0).any(-1)


def _every_domain(contribution_DE: Tensor) -> Tensor:
    """Whether every domain has some contribution."""
    return (contribution_DE.sum(-1) > 0).all(-1)


def _always(contribution_DE: Tensor) -> Tensor:
    return torch.ones(contribution_DE.shape[:-2], dtype=torch.bool, device=contribution_DE.device)


def _finite(value_R: Tensor) -> Tensor:
    """NaN in the place of infinity."""
    return value_R.where(value_R.isfinite(), math.nan)


_PAPER = "CommitteeAudit, arXiv 2601.03425"

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(
            name="coverage",
            label="Coverage",
            short="coverage",
            unit="share",
            direction="more of the routing goes to the committee",
            description=f"The committee’s share of all experts’ contribution, averaged over domains ({_PAPER}).",
            compute=lambda layer: ops.coverage(layer.contribution_DE, layer.members),
            defined=_any_domain,
            floor=Floor("|C|/E", lambda layer: layer.size / layer.n_experts),
            interval="percentile",
            of_committee=True,
            rotated_by_size=ops.largest_coverage,
            by_budget=True,
        ),
        Measure(
            name="coverage_topk",
            label="Coverage, top K",
            short="coverage top-K",
            unit="share",
            direction="more of the routing goes to the committee",
            description="The committee’s share of the contribution of each domain’s first K experts, averaged over "
            f"domains; about |C|/K for any router (the tables of {_PAPER}).",
            compute=lambda layer: ops.coverage_topk(layer.contribution_DE, layer.members, layer.k),
            defined=_any_domain,
            floor=Floor("|C|/K", lambda layer: layer.size / layer.k),
            interval="percentile",
            of_committee=True,
        ),
        Measure(
            name="gini",
            label="Gini",
            short="Gini",
            unit="coefficient",
            direction="more concentrated on few experts",
            description="Inequality of the mean contribution over all experts: 0 if all are equal, near 1 if one has "
            f"everything ({_PAPER}).",
            compute=lambda layer: ops.gini(layer.contribution_DE.mean(-2)),
            defined=_any_domain,
            interval="debiased",
            rotated=True,
        ),
        Measure(
            name="gini_topk",
            label="Gini, top K",
            short="Gini top-K",
            unit="coefficient",
            direction="more concentrated on few experts",
            description="Mean over domains of the Gini coefficient with all but the domain’s first K experts set to 0; "
            f"at least 1 − K/E for any router (the tables of {_PAPER}).",
            compute=lambda layer: ops.gini_topk(layer.contribution_DE, layer.k),
            defined=_every_domain,
            floor=Floor("1 − K/E", lambda layer: 1 - layer.k / layer.n_experts),
            interval="debiased",
            rotated=True,
        ),
        Measure(
            name="jaccard_mean",
            label="Jaccard",
            short="Jaccard",
            unit="similarity",
            direction="more alike across domains",
            description=f"Overlap of two domains’ first K experts, averaged over pairs of domains ({_PAPER}).",
            compute=lambda layer: ops.jaccard_mean(layer.contribution_DE, layer.k),
            defined=_always,
            interval="debiased",
            rotated=True,
            permuted="jaccard",
        ),
        Measure(
            name="influence_ratio",
            label="Influence ratio",
            short="influence",
            unit="ratio",
            direction="more of the routing goes to each committee member",
            description=f"Contribution of a committee member over that of another expert, on average ({_PAPER}).",
            compute=lambda layer: ops.influence_ratio(
                ops.coverage(layer.contribution_DE, layer.members), layer.size, layer.n_experts
            ),
            defined=_any_domain,
            bounds=(0.0, math.inf),
            format=".2f",
            floor=Floor("1", 1.0),
            interval=Derived("coverage", ops.influence_ratio),
            of_committee=True,
            by_budget=True,
        ),
    )
}
"""The measures by name, in the order in which they are shown."""
