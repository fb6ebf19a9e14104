"""Which layer of one run stands beside which of another."""

from collections.abc import Sequence


def match(reference: Sequence[int], other: Sequence[int]) -> list[int]:
    """For each MoE layer of the reference, the position of its partner among the other run's.

    As many layers: the one at the same position. Else the one of nearest relative depth, (position + ½) / layers, the
    shallower of two as near; a layer can then be the partner of several, or of none.
    """
    if len(reference) == len(other):
        return list(range(len(other)))
    return [_nearest(place, len(reference), len(other)) for place in range(len(reference))]


def _nearest(place: int, n_reference: int, n_other: int) -> int:
    """The position of nearest relative depth; in whole numbers, so that ties are ties."""
    return min(range(n_other), key=lambda at: (abs((2 * at + 1) * n_reference - (2 * place + 1) * n_other), at))


def rule(reference: Sequence[int], other: Sequence[int]) -> str:
    """By what `match` matches these: number, position or relative depth."""
    if list(reference) == list(other):
        return "number"
    return "position" if len(reference) == len(other) else "relative depth"
