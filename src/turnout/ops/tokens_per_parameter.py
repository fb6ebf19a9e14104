import math

from turnout.ops._inputs import refuse


def tokens_per_parameter(tokens: float, total: int) -> float:
    """TPP: training tokens per *total* parameter, embeddings and idle experts included (arXiv 2508.18672).

    Raises:
        ValueError: a number that is not positive.
    """
    for name, number in (("tokens", tokens), ("total", total)):
        if not 0 < number < math.inf:
            refuse(name, "a number above 0", number)
    return tokens / total
