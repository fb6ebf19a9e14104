import torch
from jaxtyping import Float, Integer
from torch import Tensor

from turnout.ops._inputs import check_amounts, check_domains, check_floats, refuse, wide
from turnout.ops.contribution import contribution

_EPSILON = 1e-6  # the released code's guard against an expert whose weight never varies


def released(
    weight_SE: Float[Tensor, "S E"],
    domain_S: Integer[Tensor, "S"],
    n_domains: int,
    frequency_SE: Float[Tensor, "S E"] | None = None,
) -> Float[Tensor, "{n_domains} E"]:
    """Contribution as CommitteeAudit's released code computes it, which is not what the paper (Eq. 2–4) says.

    An expert's applied weight is min–max scaled over a domain's samples, (x − min)/(max − min + 1e-6), averaged, and
    multiplied by the expert's frequency in that domain.

    Args:
        weight_SE: applied weights, 0 where not chosen.
        domain_S: each sample's domain, 0…D−1; every domain has a sample.
        n_domains: D.
        frequency_SE: how often the sample chose the expert, 0…1; left out, 1 where the weight is above 0.

    Returns:
        [D, E]; 0 in a domain with one sample, for nothing varies there.
    """
    check_amounts("weight_SE", weight_SE, "S E")
    check_domains(domain_S, len(weight_SE), n_domains)
    weight = wide(weight_SE)
    if frequency_SE is None:
        frequency = (weight > 0).to(weight.dtype)
    else:
        check_floats("frequency_SE", frequency_SE, "S E")
        if frequency_SE.shape != weight_SE.shape:
            refuse("frequency_SE", f"shape {list(weight_SE.shape)}, as weight_SE", list(frequency_SE.shape))
        frequency = wide(frequency_SE)
    scaled_DE = contribution(min_max_scaled(weight, domain_S, n_domains), domain_S, n_domains)
    return (scaled_DE * contribution(frequency, domain_S, n_domains)).to(weight_SE.dtype)


def min_max_scaled(
    weight_SE: Float[Tensor, "S E"], domain_S: Integer[Tensor, "S"], n_domains: int
) -> Float[Tensor, "S E"]:
    """Weights scaled over a domain's samples, (x − min)/(max − min + 1e-6): the first step of `released`."""
    check_amounts("weight_SE", weight_SE, "S E")
    check_domains(domain_S, len(weight_SE), n_domains)
    weight, out_SE = wide(weight_SE), torch.empty_like(wide(weight_SE))
    for d in range(n_domains):
        rows = domain_S == d
        low_E, high_E = torch.aminmax(weight[rows], dim=0)
        out_SE[rows] = (weight[rows] - low_E) / (high_E - low_E + _EPSILON)
    return out_SE.to(weight_SE.dtype)
