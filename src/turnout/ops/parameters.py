from dataclasses import dataclass

from turnout.ops._inputs import refuse


@dataclass(frozen=True)
class Parameters:
    """Parameters of a MoE: all of them, and those that one token passes; with and without the embeddings.

    The embeddings are the input's and the output's matrix, counted once where they are the same.
    """

    total: int
    active: int
    total_non_embedding: int
    active_non_embedding: int


def parameters(
    *, width: int, layers: int, experts: int, top_k: int, vocab: int, expert_width: int | None = None
) -> Parameters:
    """Parameters of the architecture of arXiv 2508.18672, exactly: N = L(3E·d·I + 4d² + d·E + 2d) + 2V·d + d.

    Per layer E SwiGLU experts, attention with as many key and value heads as query heads, a router and two norms; then
    two embeddings that are not tied, and a last norm. No biases, no shared experts. Active: K in place of the first E.
    With I = 2d the experts are the paper's 6E·d².

    >>> parameters(width=512, layers=16, experts=8, top_k=2, vocab=99584).active
    169165312

    Args:
        width: d.
        layers: L; each has experts.
        experts: E.
        top_k: K, 1…E.
        vocab: V.
        expert_width: I; None is 2·width, as in the paper.

    Raises:
        ValueError: a number below 1, or K > E.
    """
    wide = 2 * width if expert_width is None else expert_width
    check_shape_numbers(width=width, layers=layers, experts=experts, top_k=top_k, vocab=vocab, expert_width=wide)
    if top_k > experts:
        refuse("top_k", f"1 to {experts}, the number of experts", top_k)
    rest = layers * (4 * width**2 + width * experts + 2 * width) + width
    expert, embeddings = 3 * width * wide, 2 * vocab * width
    total, active = (layers * n * expert + rest for n in (experts, top_k))
    return Parameters(total + embeddings, active + embeddings, total, active)


def check_shape_numbers(**numbers: object) -> None:
    """Refuse (ValueError) a number of a model's shape that is no whole number of at least 1."""
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            refuse(name, "a whole number of at least 1", number)
