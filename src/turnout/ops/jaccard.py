from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import wide
from turnout.ops.ranks import ranks


def jaccard(contribution_DE: Float[Tensor, "*R D E"], k: int) -> Float[Tensor, "*R D D"]:
    """Jaccard similarity of each two domains' first k experts: shared ones over all that either holds; diagonal 1.

    CommitteeAudit (arXiv 2601.03425).
    """
    first_DE = (ranks(contribution_DE, k) <= k).to(wide(contribution_DE).dtype)
    shared_DD = first_DE @ first_DE.mT
    return (shared_DD / (2 * k - shared_DD)).to(contribution_DE.dtype)
