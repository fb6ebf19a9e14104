"""Matching of the layers of two runs."""

from collections.abc import Sequence


def match(reference: Sequence[int], other: Sequence[int]) -> list[int]:
    """Position in the other run of the partner of each MoE layer of the reference.

    With equal numbers of layers it is the layer at the same position. Otherwise it is the layer of nearest relative
    depth, (position + ½) / layers, the shallower one of two at equal distance; a layer can then be the partner of
    several layers, or of none.
    """
    if len(reference) == len(other):
        return list(range(len(other)))
    return [_nearest(place, len(reference), len(other)) for place in range(len(reference))]


def _nearest(place: int, n_reference: int, n_other: int) -> int:
    """Position of nearest relative depth, in whole numbers so that ties are exact."""
    return min(range(n_other), key=lambda at: (abs((2 * at + 1) * n_reference - (2 * place + 1) * n_other), at))


def rule(reference: Sequence[int], other: Sequence[int]) -> str:
    """The rule by which `match` matches these layers: number, position or relative depth."""
    if list(reference) == list(other):
        return "number"
    return "position" if len(reference) == len(other) else "relative depth"
