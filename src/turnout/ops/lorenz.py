from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_amounts, refuse, wide


def lorenz(x_E: Float[Tensor, "E"]) -> Float[Tensor, "E+1"]:
    """Lorenz curve: share of the whole that the poorest 0, 1, …, E experts hold; from 0 to 1, convex.

    Args:
        x_E: amounts of at least 0 with a sum above 0.

    Returns:
        [E + 1]; the Gini coefficient is 1 − 2 × the area beneath.
    """
    check_amounts("x_E", x_E, "E")
    held_E = wide(x_E).sort().values.cumsum(0)
    if not bool(held_E[-1] > 0):
        refuse("x_E", "a sum above 0", 0)
    curve = held_E.new_zeros(len(x_E) + 1)
    curve[1:] = held_E / held_E[-1]
    return curve.to(x_E.dtype)
