from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_amounts, refuse, wide


def mutual_information(counts_DE: Float[Tensor, "*R D E"]) -> Float[Tensor, "*R"]:
    """Mutual information in bits between a sample's domain and a chosen expert: Σ p(d,e)·log₂ p(d,e) / (p(d)·p(e)).

    0 where every domain chooses alike. From finite counts it is biased upwards: read it beside its permutations.

    Args:
        counts_DE: how often each domain's samples chose each expert, or any amounts in that proportion.
    """
    check_amounts("counts_DE", counts_DE, "*R D E")
    counts = wide(counts_DE)
    total = counts.sum((-2, -1), keepdim=True)
    if not bool((total > 0).all()):
        refuse("counts_DE", "a sum above 0", 0)
    joint_DE = counts / total
    apart_DE = joint_DE.sum(-1, keepdim=True) * joint_DE.sum(-2, keepdim=True)
    seen = joint_DE > 0
    ratio_DE = joint_DE.where(seen, 1) / apart_DE.where(seen, 1)
    return (joint_DE * ratio_DE.log2()).sum((-2, -1)).to(counts_DE.dtype)
