from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_amounts, refuse, wide
from turnout.ops.gini import gini
from turnout.ops.ranks import ranks


def gini_topk(contribution_DE: Float[Tensor, "*R D E"], k: int) -> Float[Tensor, "*R"]:
    """Mean over domains of the Gini coefficient of the domain's contributions with all but its k largest set to 0.

    What CommitteeAudit (arXiv 2601.03425) tabulates. At least 1 − k/E for any router, so read it beside that floor.
    """
    check_amounts("contribution_DE", contribution_DE, "*R D E")
    kept_DE = wide(contribution_DE).where(ranks(contribution_DE, k) <= k, 0)
    empty = ~kept_DE.any(-1)
    if bool(empty.any()):
        refuse(f"contribution_DE{empty.nonzero()[0].tolist()}", "a sum above 0", 0)
    return gini(kept_DE).mean(-1).to(contribution_DE.dtype)
