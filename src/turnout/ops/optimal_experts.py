import math

from turnout.ops._inputs import refuse
from turnout.ops.parameters import check_shape_numbers


def optimal_experts(
    *, tokens: float, tpp: float, width: int, layers: int, vocab: int, expert_width: int | None = None
) -> float:
    """How many experts give `tokens` / total parameters = `tpp` in the architecture of `parameters`.

    E* = (D/τ − [L(4d² + 2d) + 2V·d + d]) / (L(3d·I + d)): the total of `parameters` solved for E. No rounding; below 1
    where even a single expert is too many.

    >>> round(optimal_experts(tokens=125e9, tpp=20, width=1024, layers=16, vocab=99584), 1)
    59.4

    Args:
        tokens: D, training tokens.
        tpp: τ, tokens per total parameter; about 20 for reasoning (arXiv 2508.18672).
        width: d.
        layers: L.
        vocab: V.
        expert_width: I; None is 2·width.

    Raises:
        ValueError: a number that is not positive.
    """
    wide = 2 * width if expert_width is None else expert_width
    check_shape_numbers(width=width, layers=layers, vocab=vocab, expert_width=wide)
    for name, number in (("tokens", tokens), ("tpp", tpp)):
        if not 0 < number < math.inf:
            refuse(name, "a number above 0", number)
    rest = layers * (4 * width**2 + 2 * width) + 2 * vocab * width + width
    return (tokens / tpp - rest) / (layers * (3 * width * wide + width))
