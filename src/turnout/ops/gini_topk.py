import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_amounts, refuse, wide
from turnout.ops.gini import gini
from turnout.ops.ranks import ranks


def gini_topk(contribution_DE: Float[Tensor, "D E"], k: int) -> Float[Tensor, ""]:
    """Mean over domains of the Gini coefficient of the domain's contributions with all but its k largest set to 0.

    What CommitteeAudit (arXiv 2601.03425) tabulates. At least 1 − k/E for any router, so read it beside that floor.
    """
    check_amounts("contribution_DE", contribution_DE, "D E")
    kept_DE = wide(contribution_DE).where(ranks(contribution_DE, k) <= k, 0)
    for d, kept_E in enumerate(kept_DE):
        if not bool(kept_E.any()):
            refuse(f"contribution_DE[{d}]", "a sum above 0", 0)
    return torch.stack([gini(kept_E) for kept_E in kept_DE]).mean().to(contribution_DE.dtype)
