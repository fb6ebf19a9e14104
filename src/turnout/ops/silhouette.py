import torch
from jaxtyping import Float, Integer
from torch import Tensor

from turnout.ops._inputs import check_floats, check_labels, refuse, wide


def silhouette(scores_SE: Float[Tensor, "S E"], domain_S: Integer[Tensor, "S"]) -> Float[Tensor, "S"]:
    """Silhouette of each sample among the domains, with cosine distance: (b − a) / max(a, b).

    a is the mean distance to the other samples of its domain, b the least mean distance to another domain. A domain's
    specificity (CommitteeAudit, arXiv 2601.03425) is the mean over its samples. Linear in the number of samples:
    between unit vectors 1 − u·v = ½‖u − v‖², whose mean over a domain needs only its mean vector and variance.

    Args:
        scores_SE: one row a sample, none of length 0.
        domain_S: each sample's domain, any integers; two domains at least.

    Returns:
        [S], −1…1; 0 for a domain's only sample and where all distances are 0.
    """
    check_floats("scores_SE", scores_SE, "S E")
    check_labels(domain_S, len(scores_SE))
    scores = wide(scores_SE)
    length_S1 = torch.linalg.vector_norm(scores, dim=1, keepdim=True)
    if not bool((length_S1 > 0).all()):
        refuse("scores_SE", "rows of a length above 0", f"row {int((length_S1 == 0).nonzero()[0, 0])} of zeros")
    labels, label_S, count_D = domain_S.unique(return_inverse=True, return_counts=True)
    if len(labels) < 2:
        refuse("domain_S", "two domains at least", "one")
    distance_SD = _mean_distances(scores / length_S1, label_S, len(labels))
    own_S1 = label_S[:, None]
    size_S = count_D[label_S].to(scores.dtype)
    # The mean to one's own domain counts oneself, at distance 0: n/(n − 1) leaves oneself out.
    a_S = distance_SD.gather(1, own_S1).squeeze(1) * size_S / (size_S - 1).clamp(min=1)
    b_S = distance_SD.scatter(1, own_S1, torch.inf).amin(1)
    widest_S = torch.maximum(a_S, b_S)
    defined_S = (size_S > 1) & (widest_S > 0)
    return torch.where(defined_S, (b_S - a_S) / widest_S.where(defined_S, 1), 0).to(scores_SE.dtype)


def _mean_distances(unit_SE: Tensor, label_S: Tensor, n_domains: int) -> Tensor:
    """[S, D]: mean cosine distance from each sample to a domain's samples, itself included."""
    columns = []
    for d in range(n_domains):
        rows = unit_SE[label_S == d]
        mean_E = rows.mean(0)
        variance = (rows - mean_E).square().sum(1).mean()
        columns.append(((unit_SE - mean_E).square().sum(1) + variance) / 2)
    distance_SD = torch.stack(columns, dim=1)
    # Unit vectors are exact to a few units in the last place; what their squares leave is no distance.
    return distance_SD.where(distance_SD > (16 * torch.finfo(unit_SE.dtype).eps) ** 2, 0)
