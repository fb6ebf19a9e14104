from collections.abc import Iterator

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from turnout.ops._inputs import check_domains, check_floats, check_labels, refuse, wide


def silhouette(scores_SE: Float[Tensor, "S E"], domain_S: Integer[Tensor, "S"]) -> Float[Tensor, "S"]:
    """Silhouette of each sample among the domains, with cosine distance: (b − a) / max(a, b).

    a is the mean distance to the other samples of its domain, b the least mean distance to another domain. A domain's
    specificity (CommitteeAudit, arXiv 2601.03425) is the mean over its samples. Linear in the number of samples.

    Args:
        scores_SE: one row a sample, none of length 0.
        domain_S: each sample's domain, any integers; two domains at least.

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
    """`silhouette` of the same samples under each of P labellings by domains 0…D−1, none of them empty."""
    check_floats("scores_SE", scores_SE, "S E")
    for label_S in labels_PS:
        check_domains(label_S, len(scores_SE), n_domains)
    if n_domains < 2:
        refuse("domain_S", "two domains at least", "one")
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
    """Mean silhouette of each domain in each of R resamples that hold sample s `counts_RS[r, s]` times.

    A sample's own copies are left out of its a (ours): they are no neighbours. With counts of 1 the mean over a domain
    of `silhouette`.

    Args:
        scores_SE: one row a sample, none of length 0.
        domain_S: 0…D−1, two domains at least.
        n_domains: D.
        counts_RS: whole numbers of at least 0; each domain must keep a sample in each resample.
    """
    check_floats("scores_SE", scores_SE, "S E")
    check_domains(domain_S, len(scores_SE), n_domains)
    if n_domains < 2:
        refuse("n_domains", "two at least", n_domains)
    unit_SE = _unit(wide(scores_SE))
    columns = [
        (of_rows * counts_RS[:, rows]).sum(1) / counts_RS[:, rows].sum(1)
        for rows, of_rows in _blocks(unit_SE, domain_S, n_domains, counts_RS)
    ]
    return torch.stack(columns, dim=1).to(scores_SE.dtype)


def _unit(scores_SE: Tensor) -> Tensor:
    """Rows at length 1, seen from their common mean: that is nearer to all of them, so that little cancels."""
    length_S1 = torch.linalg.vector_norm(scores_SE, dim=1, keepdim=True)
    if not bool((length_S1 > 0).all()):
        refuse("scores_SE", "rows of a length above 0", f"row {int((length_S1 == 0).nonzero()[0, 0])} of zeros")
    unit_SE = scores_SE / length_S1
    return unit_SE - unit_SE.mean(0)


def _blocks(unit_SE: Tensor, label_S: Tensor, n_domains: int, counts_RS: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """A domain at a time: its sample numbers [n] and their silhouettes in each resample [R, n].

    The cosine distance of unit vectors is ½‖u − v‖². Its mean over a domain is ½‖u‖² + ½·mean‖v‖² − u·mean v, wherever
    the origin lies: a domain's mean vector and mean square are all that is needed, no S×S matrix.
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
    # What rounding leaves of a difference of equals is no distance; nor what it left of the unit vectors themselves.
    eps = torch.finfo(unit_nE.dtype).eps
    return distance_Rn.where(distance_Rn > (64 * eps * scale_Rn).clamp(min=(16 * eps) ** 2), 0)


def _values(own_Rn: Tensor, nearest_Rn: Tensor, size_R1: Tensor, counts_Rn: Tensor) -> Tensor:
    """[R, n] silhouettes; the mean to one's own domain counted oneself, at distance 0."""
    others_Rn = size_R1 - counts_Rn.clamp(min=1)
    a_Rn = own_Rn * size_R1 / others_Rn.clamp(min=1)
    widest_Rn = torch.maximum(a_Rn, nearest_Rn)
    defined_Rn = (others_Rn > 0) & (widest_Rn > 0)
    return torch.where(defined_Rn, (nearest_Rn - a_Rn) / widest_Rn.where(defined_Rn, 1), 0)
