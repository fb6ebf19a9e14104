from jaxtyping import Float, Integer
from torch import Tensor

from turnout.ops._inputs import check_amounts, check_members, refuse, wide


def coverage(contribution_DE: Float[Tensor, "*R D E"], members: Integer[Tensor, "M"]) -> Float[Tensor, "*R"]:
    """Share of the mean contribution over domains that `members` hold, of what *all* experts hold.

    CommitteeAudit (arXiv 2601.03425) defines it so, and tabulates `coverage_topk`. |C|/E for a router that treats all
    experts alike.
    """
    check_amounts("contribution_DE", contribution_DE, "*R D E")
    check_members(members, contribution_DE.shape[-1])
    mean_E = wide(contribution_DE).mean(-2)
    total = mean_E.sum(-1)
    if not bool((total > 0).all()):
        refuse("contribution_DE", "a sum above 0", 0)
    return (mean_E[..., members.long()].sum(-1) / total).clamp(max=1).to(contribution_DE.dtype)
