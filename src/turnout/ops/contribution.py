import torch
from jaxtyping import Float, Integer
from torch import Tensor

from turnout.ops._inputs import check_domains, check_floats, wide


def contribution(
    scores_SE: Float[Tensor, "S E"], domain_S: Integer[Tensor, "S"], n_domains: int
) -> Float[Tensor, "{n_domains} E"]:
    """Expert Contribution Index: the mean of each expert's score over a domain's samples.

    CommitteeAudit (arXiv 2601.03425), Eq. 2–4. With the full score vector p it is `gate`; with 0/1 choices `frequency`;
    with applied weights, 0 where not chosen, `weight`.

    Args:
        scores_SE: one row a sample; p sums to 1 over experts, and so do the rows of the result.
        domain_S: each sample's domain, 0…D−1; every domain has a sample.
        n_domains: D.

    Returns:
        [D, E].
    """
    check_floats("scores_SE", scores_SE, "S E")
    check_domains(domain_S, len(scores_SE), n_domains)
    scores = wide(scores_SE)
    # One sum a domain rather than index_add_, whose order, and so whose last bits, CUDA does not fix.
    return torch.stack([scores[domain_S == d].mean(0) for d in range(n_domains)]).to(scores_SE.dtype)
