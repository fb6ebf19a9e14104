from jaxtyping import Float, Integer
from torch import Tensor

from turnout.ops._inputs import check_k
from turnout.ops.coverage import coverage
from turnout.ops.ranks import ranks


def coverage_topk(
    contribution_DE: Float[Tensor, "*R D E"], members: Integer[Tensor, "M"], k: int
) -> Float[Tensor, "*R"]:
    """Coverage as CommitteeAudit (arXiv 2601.03425) tabulates it: of what each domain's first k hold, not of all.

    A member counts as 0 in domains whose first k it misses. About |C|/k for any router, so read it beside that floor.
    """
    check_k(k, contribution_DE.shape[-1])
    return coverage(contribution_DE.where(ranks(contribution_DE, k) <= k, 0), members)
