"""Sets of experts to mask: the committee, the core set, and their controls.

The periphery is every expert outside committee and core set. All controls are drawn from it:

- random: as many experts as the masked set, in each layer;
- least: as many, those of least gate mass;
- matched: as many as it takes to remove the masked set's gate mass, in each layer;
- curve: of sizes from one expert to all that may be masked, to learn what any removed mass costs.

Shapes: E routed experts of a layer.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from turnout.masking.config import Which

Kind = Literal["none", "committee", "core", "least", "random", "matched", "curve"]
Left = Callable[[int, Collection[int]], int]
"""(layer, masked experts) → how many a token can still choose from."""
_TRIES = 100  # a control, before it is taken that no other exists


@dataclass(frozen=True, eq=False)
class MaskLayer:
    """One layer: its committee and core set, K, and each expert's share of gate mass.

    `mass_E` is over all tokens, which is where a mask works; `last_E` at the last token, where coverage is read.
    """

    layer: int
    top_k: int
    committee: tuple[int, ...]
    core: tuple[int, ...]
    fallback: bool
    mass_E: NDArray[np.float64]
    last_E: NDArray[np.float64]

    @property
    def periphery(self) -> NDArray[np.int64]:
        """Every expert outside committee and core set."""
        return np.setdiff1d(np.arange(len(self.mass_E)), [*self.committee, *self.core])

    def tested(self, which: Which) -> tuple[int, ...]:
        """The committee or the core set."""
        return self.committee if which == "committee" else self.core


@dataclass(frozen=True)
class MaskSet:
    """Experts that are masked together: layer → experts, ascending."""

    kind: Kind
    number: int
    experts: Mapping[int, tuple[int, ...]]

    @property
    def size(self) -> int:
        """Experts in all layers together."""
        return sum(map(len, self.experts.values()))


@dataclass(frozen=True, eq=False)
class Target:
    """One layer, or all at once, and the sets to mask there; the first masks nothing."""

    name: int | Literal["all"]
    layers: tuple[MaskLayer, ...]
    sets: tuple[MaskSet, ...]
    left_out: Mapping[int, str]

    def mass(self, masked: MaskSet, *, last: bool = False) -> float:
        """Share of gate mass of a set, mean over the target's layers."""
        masses = [(x.last_E if last else x.mass_E)[list(masked.experts.get(x.layer, ()))].sum() for x in self.layers]
        return float(np.mean(masses))


def targets(
    layers: Sequence[MaskLayer], chosen: str | Sequence[int], which: Which, controls: int, left: Left, seed: int
) -> list[Target]:
    """What is to be masked where.

    Args:
        layers: all MoE layers.
        chosen: "all" (at once), "each" (each alone, then all at once), or layer numbers (each alone).
        which: the set that controls are sized by.
        controls: random sets; the matched and the curve's sets are a fifth of that, at least four, each.
        left: how many experts a token can choose from after masking.
        seed: of the draws; a target's draws do not depend on which other targets there are.
    """
    alone = layers if chosen == "each" else [x for x in layers if not isinstance(chosen, str) and x.layer in chosen]
    result = [_target(x.layer, [x], which, controls, left, seed) for x in alone]
    return [*result, _target("all", layers, which, controls, left, seed)] if isinstance(chosen, str) else result


def _target(
    name: int | Literal["all"], layers: Sequence[MaskLayer], which: Which, controls: int, left: Left, seed: int
) -> Target:
    reasons = {x.layer: _infeasible(x, which, left) for x in layers}
    kept = tuple(x for x in layers if reasons[x.layer] is None)
    left_out = {number: reason for number, reason in reasons.items() if reason}
    nothing = MaskSet("none", 0, {})
    if not kept:
        return Target(name, kept, (nothing,), left_out)
    rng = np.random.default_rng([seed, len(layers), layers[0].layer])
    sets = [nothing, *_tested(kept, which, left), *_least(kept, which, left)]
    few = max(4, (controls + 1) // 5)
    sizes = {x.layer: len(x.tested(which)) for x in kept}
    sets += _distinct("random", controls, lambda _: _draw(kept, sizes, left, rng))
    sets += _distinct("matched", few, lambda _: _matched(kept, which, left, rng))
    sets += _distinct("curve", few, lambda i: _draw(kept, _sizes(kept, (i % few + 1) / few), left, rng))
    return Target(name, kept, tuple(sets), left_out)


def _infeasible(layer: MaskLayer, which: Which, left: Left) -> str | None:
    """Why a layer's set cannot be masked; None if it can."""
    masked = layer.tested(which)
    rest = left(layer.layer, masked)
    if rest < layer.top_k:
        return f"masking its {which} of {len(masked)} would leave {rest} experts of K = {layer.top_k}"
    return None


def _tested(layers: Sequence[MaskLayer], which: Which, left: Left) -> list[MaskSet]:
    """The set that is tested, then the other one if it is another and can be masked in every layer."""
    other: Which = "core" if which == "committee" else "committee"
    tested = [MaskSet(which, 0, {x.layer: tuple(sorted(x.tested(which))) for x in layers})]
    second = MaskSet(other, 0, {x.layer: tuple(sorted(x.tested(other))) for x in layers})
    if second.experts != tested[0].experts and all(left(x.layer, x.tested(other)) >= x.top_k for x in layers):
        tested.append(second)
    return tested


def _least(layers: Sequence[MaskLayer], which: Which, left: Left) -> list[MaskSet]:
    experts = {}
    for x in layers:
        order = x.periphery[np.argsort(x.mass_E[x.periphery], kind="stable")]
        experts[x.layer] = tuple(sorted(order[: len(x.tested(which))].tolist()))
        if len(experts[x.layer]) < len(x.tested(which)) or left(x.layer, experts[x.layer]) < x.top_k:
            return []
    return [MaskSet("least", 0, experts)]


def _distinct(kind: Kind, n: int, draw: Callable[[int], dict[int, tuple[int, ...]] | None]) -> list[MaskSet]:
    """Up to `n` different draws: fewer where there are no more."""
    result: dict[tuple[tuple[int, tuple[int, ...]], ...], dict[int, tuple[int, ...]]] = {}
    for i in range(n * _TRIES):
        experts = draw(i)
        if experts is not None:
            result.setdefault(tuple(experts.items()), experts)
        if len(result) == n:
            break
    return [MaskSet(kind, number, experts) for number, experts in enumerate(result.values())]


def _draw(
    layers: Sequence[MaskLayer], sizes: Mapping[int, int], left: Left, rng: np.random.Generator
) -> dict[int, tuple[int, ...]] | None:
    """Random periphery experts, `sizes` of them in each layer; None if there are not so many, or too few are left."""
    experts = {}
    for x in layers:
        if sizes[x.layer] > len(x.periphery):
            return None
        experts[x.layer] = tuple(sorted(rng.choice(x.periphery, sizes[x.layer], replace=False).tolist()))
        if left(x.layer, experts[x.layer]) < x.top_k:
            return None
    return experts


def _sizes(layers: Sequence[MaskLayer], share: float) -> dict[int, int]:
    """That share of the experts that may be masked in each layer, at least one."""
    most = {x.layer: min(len(x.periphery), len(x.mass_E) - x.top_k) for x in layers}
    return {number: max(1, round(share * size)) for number, size in most.items()}


def _matched(
    layers: Sequence[MaskLayer], which: Which, left: Left, rng: np.random.Generator
) -> dict[int, tuple[int, ...]] | None:
    """In each layer random periphery experts whose gate mass is as near to the masked set's as one exchange allows."""
    experts = {}
    for x in layers:
        wanted = float(x.mass_E[list(x.tested(which))].sum())
        order = rng.permutation(x.periphery)[: len(x.mass_E) - x.top_k]
        masses = np.concatenate([[0.0], np.cumsum(x.mass_E[order])])
        size = max(1, int(np.argmin(np.abs(masses - wanted)))) if len(order) else 0
        if size == 0:
            return None
        kept, others = order[: size - 1], np.setdiff1d(x.periphery, order[: size - 1])
        last = others[np.argmin(np.abs(x.mass_E[kept].sum() + x.mass_E[others] - wanted))]
        experts[x.layer] = tuple(sorted([*kept.tolist(), int(last)]))
        if left(x.layer, experts[x.layer]) < x.top_k:
            return None
    return experts
