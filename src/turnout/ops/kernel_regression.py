from jaxtyping import Bool, Float
from torch import Tensor

from turnout.ops._inputs import check_floats, refuse, wide
from turnout.ops.kernel_weights import kernel_weights


def kernel_regression(
    queries_NX: Float[Tensor, "N X"],
    neighbours_NkX: Float[Tensor, "N k X"],
    values_NkF: Float[Tensor, "N k F"],
    sigma: float,
    missing_Nk: Bool[Tensor, "N k"] | None = None,
) -> Float[Tensor, "N F"]:
    """Σ_j K_j·v_j / ΣK of each query, K the Gaussian kernel of width σ (Nadaraya and Watson).

    C3PO's kernel regression (arXiv 2504.07964) with embeddings as queries and routing as values; its mode finding, a
    step of mean shift, with routing as both. A query without neighbours gets 0.

    Args:
        queries_NX: one row a query.
        neighbours_NkX: the neighbours of each query, where the kernel is taken.
        values_NkF: what is averaged.
        sigma: the kernel's width, above 0, in the units of the distances.
        missing_Nk: True where there is no such neighbour; None: all are there.
    """
    check_floats("values_NkF", values_NkF, "N k F")
    if values_NkF.shape[:2] != neighbours_NkX.shape[:2]:
        refuse("values_NkF", f"shape {[*neighbours_NkX.shape[:2]]} and values", [*values_NkF.shape])
    weight_Nk = wide(kernel_weights(queries_NX, neighbours_NkX, sigma, missing_Nk))
    return (weight_Nk.unsqueeze(2) * wide(values_NkF)).sum(1).to(values_NkF.dtype)
