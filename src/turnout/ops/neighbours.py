"""Nearest neighbors and what is computed from them: kernel weights, kernel regression, the manifold loss.

Shapes: N queries, R references, X coordinates, k neighbors, F routing scores, B samples of a batch; in the block
search C candidates a query, n and r a block of N and R.
"""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from turnout.ops._inputs import check_floats, check_shape, refuse, wide

_BLOCK_N, _BLOCK_R = 1024, 8192  # 32 MB of float32 products
_SPARE = 12  # candidates beyond k: rounding may swap near ones, exact distances then decide
_MAX_GATHERED = 1 << 22  # numbers of candidates' rows in memory at once


@torch.no_grad()
def neighbours(
    queries_NX: Float[Tensor, "N X"],
    references_RX: Float[Tensor, "R X"],
    k: int,
    sigma: float,
    min_similarity: float | None = None,
    exclude_N: Integer[Tensor, "N"] | None = None,
) -> tuple[Integer[Tensor, "N {k}"], Float[Tensor, "N {k}"]]:
    """The k nearest references of each query, and their weights W (RoMA, arXiv 2511.07419).

    sim = exp(−‖q − r‖² / 2σ²); W = sim over the sum of the query's sims. Exact: distances of all candidates come from
    differences, in float64; no N×R matrix is allocated. No gradient.

    Args:
        queries_NX: one row a query.
        references_RX: one row a reference.
        k: largest number of neighbors of a query.
        sigma: the kernel's width, above 0, in the units of the distances.
        min_similarity: leave out references of a lower sim (the ε-ball); None leaves out none.
        exclude_N: for each query a reference to leave out (itself), −1 for none.

    Returns:
        index [N, k], int64, nearest first, ties by index; weights [N, k], summing to 1. A missing neighbor has index −1
        and weight 0; a query without neighbors has weights of 0.
    """
    _check(queries_NX, references_RX, k, sigma, min_similarity, exclude_N)
    queries, references = wide(queries_NX), wide(references_RX).to(wide(queries_NX).dtype)
    exclude = torch.full((len(queries),), -1) if exclude_N is None else exclude_N.long()
    exclude = exclude.to(queries.device)
    blocks = [
        _block(queries[at : at + _BLOCK_N], references, exclude[at : at + _BLOCK_N], k)
        for at in range(0, len(queries), _BLOCK_N)
    ]
    index_Nk, distance_Nk = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    logit_Nk = -distance_Nk / (2 * sigma**2)
    missing_Nk = index_Nk < 0
    if min_similarity is not None:
        missing_Nk |= logit_Nk.exp() < min_similarity
    weight_Nk = logit_Nk.masked_fill(missing_Nk, -torch.inf).softmax(1).masked_fill(missing_Nk, 0)
    return index_Nk.masked_fill(missing_Nk, -1), weight_Nk.to(queries_NX.dtype)


def _block(queries_nX: Tensor, references_RX: Tensor, exclude_n: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Index [n, k] and squared distance [n, k] (float64) of a block of queries; −1 and ∞ for missing neighbors."""
    score_nC, index_nC = _candidates(queries_nX, references_RX, exclude_n, k + _SPARE)
    distance_nC = _squared_distances(queries_nX, references_RX, index_nC, score_nC > -torch.inf)
    index_nk, distance_nk = _first(index_nC, distance_nC, k)
    for row in _uncertain(queries_nX, references_RX, score_nC, distance_nk).nonzero().flatten().tolist():
        index_nk[row], distance_nk[row] = _search(queries_nX[row], references_RX, int(exclude_n[row]), k)
    return index_nk.masked_fill(distance_nk == torch.inf, -1), distance_nk


def _candidates(queries_nX: Tensor, references_RX: Tensor, exclude_n: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The `n` references with the largest computed q·r − ½‖r‖², [n, C], and their indices; −∞ fills short rows."""
    best = queries_nX.new_full((len(queries_nX), n), -torch.inf)
    index = torch.zeros(best.shape, dtype=torch.int64, device=best.device)
    buffer = queries_nX.new_empty(len(queries_nX) * min(_BLOCK_R, len(references_RX)))  # reused: a third faster
    for at in range(0, len(references_RX), _BLOCK_R):
        block_rX = references_RX[at : at + _BLOCK_R]
        score_nr = buffer[: len(queries_nX) * len(block_rX)].view(len(queries_nX), len(block_rX))
        torch.addmm(block_rX.square().sum(1) / -2, queries_nX, block_rX.T, out=score_nr)
        inside = ((exclude_n >= at) & (exclude_n < at + len(block_rX))).nonzero().flatten()
        score_nr[inside, exclude_n[inside] - at] = -torch.inf
        value, where = score_nr.topk(min(n, len(block_rX)))
        best, chosen = torch.cat([best, value], 1).topk(n)
        index = torch.cat([index, where + at], 1).gather(1, chosen)
    return best, index


def _squared_distances(queries_nX: Tensor, references_RX: Tensor, index_nC: Tensor, real_nC: Tensor) -> Tensor:
    """‖q − r‖² [n, C] in float64, ∞ where there is no candidate."""
    rows = max(1, _MAX_GATHERED // (index_nC.shape[1] * queries_nX.shape[1]))
    parts = [
        (references_RX[index].to(_exact(queries_nX)) - query.unsqueeze(1)).square().sum(2)
        for query, index in zip(queries_nX.split(rows), index_nC.split(rows), strict=True)
    ]
    return torch.cat(parts).masked_fill(~real_nC, torch.inf)


def _first(index_nC: Tensor, distance_nC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest candidates of each row, ties by index."""
    index_nC, order = index_nC.sort(1)
    distance_nC, nearest = distance_nC.gather(1, order).sort(stable=True, dim=1)
    return index_nC.gather(1, nearest)[:, :k].contiguous(), distance_nC[:, :k].contiguous()


def _uncertain(queries_nX: Tensor, references_RX: Tensor, score_nC: Tensor, distance_nk: Tensor) -> Tensor:
    """[n]: whether one of the k may be missing from the candidates, by rounding or among many equal distances."""
    worst_n = score_nC[:, -1].to(distance_nk.dtype)
    bound_n = queries_nX.to(distance_nk.dtype).square().sum(1) - 2 * worst_n
    return (worst_n > -torch.inf) & (bound_n - _rounding_bound(queries_nX, references_RX) <= distance_nk[:, -1])


def _rounding_bound(queries_nX: Tensor, references_RX: Tensor) -> Tensor:
    """[n]: bound on the rounding error of the computed ‖q‖² − 2·(q·r − ½‖r‖²) as ‖q − r‖²."""
    longest = torch.linalg.vector_norm(references_RX, dim=1).amax()
    product_n = (torch.linalg.vector_norm(queries_nX, dim=1) + longest) * longest
    return 4 * (queries_nX.shape[1] + 4) * torch.finfo(queries_nX.dtype).eps * product_n.to(_exact(queries_nX))


def _search(query_X: Tensor, references_RX: Tensor, exclude: int, k: int) -> tuple[Tensor, Tensor]:
    """Index [k] and squared distance [k] of one query; candidates are all references within rounding of the k-th."""
    score_R = references_RX @ query_X - references_RX.square().sum(1) / 2
    if exclude >= 0:
        score_R[exclude] = -torch.inf
    lowest = score_R.topk(k).values[-1].to(_exact(query_X)) - _rounding_bound(query_X.unsqueeze(0), references_RX)[0]
    index_1C = (score_R >= lowest).nonzero().flatten().unsqueeze(0)
    distances = [
        _squared_distances(query_X.unsqueeze(0), references_RX, part, torch.ones_like(part, dtype=torch.bool))
        for part in index_1C.split(max(1, _MAX_GATHERED // len(query_X)), 1)
    ]
    index, distance = _first(index_1C, torch.cat(distances, 1), k)
    return index[0], distance[0]


def _exact(x: Tensor) -> torch.dtype:
    """The dtype of exact distances: float64, but float32 on Apple's GPUs, which lack it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def _check(
    queries_NX: Tensor,
    references_RX: Tensor,
    k: int,
    sigma: float,
    min_similarity: float | None,
    exclude_N: Tensor | None,
) -> None:
    check_floats("queries_NX", queries_NX, "N X")
    check_floats("references_RX", references_RX, "R X")
    if queries_NX.shape[1] != references_RX.shape[1]:
        refuse("references_RX", f"{queries_NX.shape[1]} coordinates, as the queries have", references_RX.shape[1])
    if k < 1:
        refuse("k", "1 or more", k)
    if not 0 < sigma < float("inf"):
        refuse("sigma", "a width above 0", sigma)
    if min_similarity is not None and not 0 <= min_similarity <= 1:
        refuse("min_similarity", "a similarity from 0 to 1", min_similarity)
    if exclude_N is None:
        return
    if exclude_N.shape != (len(queries_NX),) or exclude_N.is_floating_point() or exclude_N.dtype == torch.bool:
        refuse("exclude_N", f"{len(queries_NX)} integers", f"{exclude_N.dtype} {list(exclude_N.shape)}")
    if int(exclude_N.min()) < -1 or int(exclude_N.max()) >= len(references_RX):
        expected = f"indices from 0 to {len(references_RX) - 1}, or -1"
        refuse("exclude_N", expected, f"{int(exclude_N.min())} to {int(exclude_N.max())}")


def kernel_weights(
    queries_NX: Float[Tensor, "N X"],
    neighbours_NkX: Float[Tensor, "N k X"],
    sigma: float,
    missing_Nk: Bool[Tensor, "N k"] | None = None,
) -> Float[Tensor, "N k"]:
    """Gaussian kernel weights K_j / ΣK of each query's neighbors, K = exp(−‖q − x_j‖² / 2σ²).

    The kernel of C3PO (arXiv 2504.07964), which states no width. A missing neighbor has weight 0; a query without
    neighbors has weights of 0. Distant neighbors, for which every K underflows to 0, still get their shares.

    Args:
        queries_NX: one row a query.
        neighbours_NkX: the neighbors of each query.
        sigma: the kernel's width, above 0, in the units of the distances.
        missing_Nk: True where a neighbor is missing; None: none is.
    """
    check_floats("queries_NX", queries_NX, "N X")
    check_floats("neighbours_NkX", neighbours_NkX, "N k X")
    n, k, width = neighbours_NkX.shape
    if (n, width) != tuple(queries_NX.shape):
        refuse("neighbours_NkX", f"shape [{len(queries_NX)}, k, {queries_NX.shape[1]}]", [n, k, width])
    if not 0 < sigma < float("inf"):
        refuse("sigma", "a width above 0", sigma)
    if missing_Nk is None:
        missing_Nk = torch.zeros(n, k, dtype=torch.bool, device=queries_NX.device)
    if missing_Nk.shape != (n, k) or missing_Nk.dtype != torch.bool:
        refuse("missing_Nk", f"booleans of shape [{n}, {k}]", f"{missing_Nk.dtype} {list(missing_Nk.shape)}")
    difference_NkX = wide(neighbours_NkX) - wide(queries_NX).unsqueeze(1)
    logit_Nk = difference_NkX.square().sum(2) / (-2 * sigma**2)
    shares_Nk = logit_Nk.masked_fill(missing_Nk, -torch.inf).softmax(1)
    return shares_Nk.masked_fill(missing_Nk, 0).to(queries_NX.dtype)


def kernel_regression(
    queries_NX: Float[Tensor, "N X"],
    neighbours_NkX: Float[Tensor, "N k X"],
    values_NkF: Float[Tensor, "N k F"],
    sigma: float,
    missing_Nk: Bool[Tensor, "N k"] | None = None,
) -> Float[Tensor, "N F"]:
    """Σ_j K_j·v_j / ΣK of each query, K the Gaussian kernel of width σ (Nadaraya and Watson).

    C3PO's kernel regression (arXiv 2504.07964) with embeddings as queries and routing as values; its mode finding, a
    step of mean shift, with routing as both. The result of a query without neighbors is 0.

    Args:
        queries_NX: one row a query.
        neighbours_NkX: the neighbors of each query, the arguments of the kernel.
        values_NkF: the neighbors' values, which are averaged.
        sigma: the kernel's width, above 0, in the units of the distances.
        missing_Nk: True where a neighbor is missing; None: none is.
    """
    check_floats("values_NkF", values_NkF, "N k F")
    if values_NkF.shape[:2] != neighbours_NkX.shape[:2]:
        refuse("values_NkF", f"shape {[*neighbours_NkX.shape[:2]]} and values", [*values_NkF.shape])
    weight_Nk = wide(kernel_weights(queries_NX, neighbours_NkX, sigma, missing_Nk))
    return (weight_Nk.unsqueeze(2) * wide(values_NkF)).sum(1).to(values_NkF.dtype)


def manifold_loss(
    routing_BF: Float[Tensor, "B F"], neighbours_BkF: Float[Tensor, "B k F"], weight_Bk: Float[Tensor, "B k"]
) -> Float[Tensor, ""]:
    """Manifold loss: Σ_j W[i,j]·‖r_i − r_j‖² between a sample's routing and its neighbors', mean over B.

    RoMA (arXiv 2511.07419). Differentiable in all three. A missing neighbor has weight 0 and adds nothing; a sample
    without neighbors adds 0 and counts in the mean.

    Args:
        routing_BF: r_i, the scores of a sample's layers, concatenated.
        neighbours_BkF: r_j of each sample's neighbors.
        weight_Bk: W, at least 0; a row sums to 1, or to 0 without neighbors.

    Returns:
        A scalar.
    """
    check_shape("routing_BF", routing_BF, "B F")
    check_shape("neighbours_BkF", neighbours_BkF, "B k F")
    check_shape("weight_Bk", weight_Bk, "B k")
    n, features = routing_BF.shape
    if neighbours_BkF.shape[0] != n or neighbours_BkF.shape[2] != features:
        refuse("neighbours_BkF", f"shape [{n}, k, {features}]", list(neighbours_BkF.shape))
    if weight_Bk.shape != neighbours_BkF.shape[:2]:
        refuse("weight_Bk", f"shape {list(neighbours_BkF.shape[:2])}", list(weight_Bk.shape))
    dtype = torch.promote_types(routing_BF.dtype, torch.float32)
    difference_BkF = wide(routing_BF).unsqueeze(1) - neighbours_BkF.to(dtype)
    return (weight_Bk.to(dtype) * difference_BkF.square().sum(2)).sum(1).mean().to(routing_BF.dtype)
