from jaxtyping import Float
from torch import Tensor, arange

from turnout.ops._inputs import refuse
from turnout.ops.neighbours import neighbours


def neighbour_overlap(x_SX: Float[Tensor, "S X"], y_SY: Float[Tensor, "S Y"], k: int) -> Float[Tensor, "S"]:
    """Share of each sample's k nearest other samples in one representation that are among its k in the other.

    Euclidean distances, ties by index; exact (see `neighbours`). Unrelated representations share k/(S−1) on average.

    Args:
        x_SX: one row a sample.
        y_SY: the same samples, of any width.
        k: 1…S−1.

    Returns:
        [S], 0…1, in the dtype of `x_SX`.
    """
    if len(x_SX) != len(y_SY):
        refuse("y_SY", f"{len(x_SX)} rows, as x_SX has", len(y_SY))
    if not 1 <= k < len(x_SX):
        refuse("k", f"1 to {len(x_SX) - 1}, one less than there are samples", k)
    itself = arange(len(x_SX))
    ours_Sk, theirs_Sk = (neighbours(of, of, k, sigma=1.0, exclude_N=itself)[0] for of in (x_SX, y_SY))
    return (ours_Sk[:, :, None] == theirs_Sk[:, None, :]).any(2).to(x_SX.dtype).mean(1)
