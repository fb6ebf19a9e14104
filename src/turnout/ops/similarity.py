"""Similarity of expert sets, samples and representations: Jaccard, mutual information, silhouette, CKA, overlap, ranks.

Shapes: S samples, D domains, E routed experts, *R any leading dimensions.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Integer
from torch import Tensor, arange

from turnout.ops._inputs import check_amounts, check_domains, check_floats, check_labels, refuse, wide
from turnout.ops.committee import ranks
from turnout.ops.neighbours import neighbours


def jaccard(contribution_DE: Float[Tensor, "*R D E"], k: int) -> Float[Tensor, "*R D D"]:
    """Jaccard similarity of each two domains' first k experts: intersection over union; diagonal 1.

    CommitteeAudit (arXiv 2601.03425).
    """
    first_DE = (ranks(contribution_DE, k) <= k).to(wide(contribution_DE).dtype)
    shared_DD = first_DE @ first_DE.mT
    return (shared_DD / (2 * k - shared_DD)).to(contribution_DE.dtype)


def jaccard_mean(contribution_DE: Float[Tensor, "*R D E"], k: int) -> Float[Tensor, "*R"]:
    """Mean of `jaccard` over the pairs of two different domains.

    CommitteeAudit (arXiv 2601.03425).

    Returns:
        NaN for one domain, which has no pair.
    """
    jaccard_DD = jaccard(contribution_DE, k)
    different = ~torch.eye(jaccard_DD.shape[-1], dtype=torch.bool, device=jaccard_DD.device)
    return jaccard_DD[..., different].mean(-1)


def mutual_information(counts_DE: Float[Tensor, "*R D E"]) -> Float[Tensor, "*R"]:
    """Mutual information in bits between a sample's domain and a chosen expert: Σ p(d,e)·log₂ p(d,e) / (p(d)·p(e)).

    0 where every domain chooses alike. From finite counts it is biased upwards: compare it with permutations.

    Args:
        counts_DE: how often each domain's samples chose each expert, or any amounts in that proportion.
    """
    check_amounts("counts_DE", counts_DE, "*R D E")
    counts = wide(counts_DE)
    total = counts.sum((-2, -1), keepdim=True)
    if not bool((total > 0).all()):
        refuse("counts_DE", "a sum above 0", 0)
    joint_DE = counts / total
    independent_DE = joint_DE.sum(-1, keepdim=True) * joint_DE.sum(-2, keepdim=True)
    seen = joint_DE > 0
    ratio_DE = joint_DE.where(seen, 1) / independent_DE.where(seen, 1)
    return (joint_DE * ratio_DE.log2()).sum((-2, -1)).to(counts_DE.dtype)


def silhouette(scores_SE: Float[Tensor, "S E"], domain_S: Integer[Tensor, "S"]) -> Float[Tensor, "S"]:
    """Silhouette of each sample among the domains, with cosine distance: (b − a) / max(a, b).

    a is the mean distance to the other samples of its domain, b the least mean distance to another domain. A domain's
    specificity (CommitteeAudit, arXiv 2601.03425) is the mean over its samples. Linear in the number of samples.

    Args:
        scores_SE: one row a sample, none all zeros.
        domain_S: each sample's domain, any integers; at least two domains.

    Returns:
        [S], −1…1; 0 for a domain's only sample and where all distances are 0.
    """
    check_floats("scores_SE", scores_SE, "S E")
    check_labels(domain_S, len(scores_SE))
    labels, label_S = domain_S.unique(return_inverse=True)
    return labelled_silhouette(scores_SE, label_S[None], len(labels))[0]


def labelled_silhouette(
    scores_SE: Float[Tensor, "S E"], labels_PS: Integer[Tensor, "P S"], n_domains: int
) -> Float[Tensor, "P S"]:
    """`silhouette` of the same samples under each of P labelings by domains 0…D−1, none empty."""
    check_floats("scores_SE", scores_SE, "S E")
    for label_S in labels_PS:
        check_domains(label_S, len(scores_SE), n_domains)
    if n_domains < 2:
        refuse("domain_S", "at least two domains", "one")
    unit_SE = _unit(wide(scores_SE))
    member_PDS = torch.nn.functional.one_hot(labels_PS, n_domains).mT.to(unit_SE.dtype)
    size_PD = member_PDS.sum(2)
    half_S = unit_SE.square().sum(1) / 2
    mean_PDE = member_PDS @ unit_SE / size_PD[:, :, None]
    distance_PDS = _distance(unit_SE, half_S, mean_PDE, member_PDS @ half_S / size_PD)
    own_P1S = labels_PS[:, None]
    own_PS = distance_PDS.gather(1, own_P1S).squeeze(1)
    nearest_PS = distance_PDS.scatter(1, own_P1S, torch.inf).amin(1)
    size_PS = size_PD.gather(1, labels_PS)
    return _values(own_PS, nearest_PS, size_PS, torch.ones_like(size_PS)).to(scores_SE.dtype)


def mean_silhouette(
    scores_SE: Float[Tensor, "S E"], domain_S: Integer[Tensor, "S"], n_domains: int, counts_RS: Float[Tensor, "R S"]
) -> Float[Tensor, "R D"]:
    """Mean silhouette of each domain in each of R resamples, in which sample s occurs `counts_RS[r, s]` times.

    A sample's own copies are left out of its a (ours): they are not neighbors. With counts of 1 it is the mean of
    `silhouette` over a domain.

    Args:
        scores_SE: one row a sample, none all zeros.
        domain_S: 0…D−1, at least two domains.
        n_domains: D.
        counts_RS: integers of at least 0; each domain needs a sample in each resample.
    """
    check_floats("scores_SE", scores_SE, "S E")
    check_domains(domain_S, len(scores_SE), n_domains)
    if n_domains < 2:
        refuse("n_domains", "at least two", n_domains)
    unit_SE = _unit(wide(scores_SE))
    columns = [
        (of_rows * counts_RS[:, rows]).sum(1) / counts_RS[:, rows].sum(1)
        for rows, of_rows in _blocks(unit_SE, domain_S, n_domains, counts_RS)
    ]
    return torch.stack(columns, dim=1).to(scores_SE.dtype)


def _unit(scores_SE: Tensor) -> Tensor:
    """Rows scaled to norm 1, minus their common mean: differences of nearby vectors then lose little to rounding."""
    length_S1 = torch.linalg.vector_norm(scores_SE, dim=1, keepdim=True)
    if not bool((length_S1 > 0).all()):
        refuse("scores_SE", "rows of a norm above 0", f"row {int((length_S1 == 0).nonzero()[0, 0])} of zeros")
    unit_SE = scores_SE / length_S1
    return unit_SE - unit_SE.mean(0)


def _blocks(unit_SE: Tensor, label_S: Tensor, n_domains: int, counts_RS: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each domain its sample numbers [n] and their silhouettes in each resample [R, n].

    The cosine distance of unit vectors is ½‖u − v‖². Its mean over a domain is ½‖u‖² + ½·mean‖v‖² − u·mean v, for any
    origin: a domain's mean vector and mean square are enough, without an S×S matrix.
    """
    half_S = unit_SE.square().sum(1) / 2
    rows_of = [(label_S == d).nonzero().flatten() for d in range(n_domains)]
    size_DR = torch.stack([counts_RS[:, rows].sum(1) for rows in rows_of])
    mean_DRE = torch.stack([counts_RS[:, rows] @ unit_SE[rows] for rows in rows_of]) / size_DR[:, :, None]
    half_DR = torch.stack([counts_RS[:, rows] @ half_S[rows] for rows in rows_of]) / size_DR
    for d, rows in enumerate(rows_of):
        own_Rn, nearest_Rn = None, None
        for other in range(n_domains):
            distance_Rn = _distance(unit_SE[rows], half_S[rows], mean_DRE[other], half_DR[other])
            if other == d:
                own_Rn = distance_Rn
            else:
                nearest_Rn = distance_Rn if nearest_Rn is None else torch.minimum(nearest_Rn, distance_Rn)
        assert own_Rn is not None
        assert nearest_Rn is not None
        yield rows, _values(own_Rn, nearest_Rn, size_DR[d, :, None], counts_RS[:, rows])


def _distance(unit_nE: Tensor, half_n: Tensor, mean_RE: Tensor, half_R: Tensor) -> Tensor:
    """[…, n]: mean cosine distance from each of n samples to a domain's samples, itself included."""
    scale_Rn = half_R[..., None] + half_n
    distance_Rn = scale_Rn - mean_RE @ unit_nE.T
    # Differences within rounding, of the distance or of the unit vectors themselves, count as distance 0.
    eps = torch.finfo(unit_nE.dtype).eps
    return distance_Rn.where(distance_Rn > (64 * eps * scale_Rn).clamp(min=(16 * eps) ** 2), 0)


def _values(own_Rn: Tensor, nearest_Rn: Tensor, size_R1: Tensor, counts_Rn: Tensor) -> Tensor:
    """[R, n] silhouettes; `own_Rn` is a mean that includes the sample itself, at distance 0."""
    others_Rn = size_R1 - counts_Rn.clamp(min=1)
    a_Rn = own_Rn * size_R1 / others_Rn.clamp(min=1)
    larger_Rn = torch.maximum(a_Rn, nearest_Rn)
    defined_Rn = (others_Rn > 0) & (larger_Rn > 0)
    return torch.where(defined_Rn, (nearest_Rn - a_Rn) / larger_Rn.where(defined_Rn, 1), 0)


def linear_cka(x_SX: Float[Tensor, "S X"], y_SY: Float[Tensor, "S Y"]) -> Float[Tensor, ""]:
    """Linear centered kernel alignment: ‖YᵀX‖² / (‖XᵀX‖·‖YᵀY‖), columns centered, Frobenius norms.

    Kornblith et al., arXiv 1905.00414, eq. 3 and 4. No S×S matrix is allocated. Invariant under rotation, shift and a
    common factor of either side. With few samples relative to the coordinates it is above 0 for unrelated
    representations: compare it with permutations of one side.

    Args:
        x_SX: one row a sample.
        y_SY: the same samples, of any width.

    Returns:
        0…1. NaN where all rows of one side are equal.
    """
    check_floats("x_SX", x_SX, "S X")
    check_floats("y_SY", y_SY, "S Y")
    if len(x_SX) != len(y_SY):
        refuse("y_SY", f"{len(x_SX)} rows, as x_SX has", len(y_SY))
    x, y = _centered(x_SX), _centered(y_SY)
    across, of_x, of_y = (torch.linalg.matrix_norm(a.T @ b) for a, b in ((y, x), (x, x), (y, y)))
    return (across.square() / (of_x * of_y)).clamp(max=1.0).to(x_SX.dtype)


def _centered(x_SX: Tensor) -> Tensor:
    """Columns of mean 0, scaled to a Frobenius norm of 1, so that squares stay in range; NaN if all rows are equal."""
    x_SX = wide(x_SX)
    x_SX = x_SX - x_SX[0]
    x_SX = x_SX - x_SX.mean(0)
    return x_SX / torch.linalg.matrix_norm(x_SX)


def neighbour_overlap(x_SX: Float[Tensor, "S X"], y_SY: Float[Tensor, "S Y"], k: int) -> Float[Tensor, "S"]:
    """Share of each sample's k nearest other samples in one representation that are also its k nearest in the other.

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
        refuse("k", f"1 to {len(x_SX) - 1}, one less than the number of samples", k)
    itself = arange(len(x_SX))
    ours_Sk, theirs_Sk = (neighbours(of, of, k, sigma=1.0, exclude_N=itself)[0] for of in (x_SX, y_SY))
    return (ours_Sk[:, :, None] == theirs_Sk[:, None, :]).any(2).to(x_SX.dtype).mean(1)


def rank_correlation(x_TN: Float[Tensor, "T N"], y_TN: Float[Tensor, "T N"]) -> Float[Tensor, "T"]:
    """Spearman's rank correlation of each row of x with the same row of y; equal values share their mean rank.

    0 where all values of a row are equal (ours).
    """
    check_floats("x_TN", x_TN, "T N")
    check_floats("y_TN", y_TN, "T N")
    if x_TN.shape != y_TN.shape:
        refuse("y_TN", f"shape {list(x_TN.shape)}, as x_TN", list(y_TN.shape))
    x, y = (_centered_ranks(wide(values)) for values in (x_TN, y_TN))
    length_T = x.norm(dim=1) * y.norm(dim=1)
    return ((x * y).sum(1) / length_T).where(length_T > 0, 0).to(x_TN.dtype)


def _centered_ranks(values_TN: Tensor) -> Tensor:
    sorted_TN = values_TN.sort(dim=1).values.contiguous()
    values_TN = values_TN.contiguous()
    below = torch.searchsorted(sorted_TN, values_TN)
    upto = torch.searchsorted(sorted_TN, values_TN, right=True)
    return (below + upto).to(values_TN.dtype) / 2 - values_TN.shape[1] / 2
