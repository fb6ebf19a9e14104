from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_amounts, refuse, wide


class LogOdds(NamedTuple):
    """Log-odds ratio and its z-score, one for each type."""

    log_odds: Tensor
    z: Tensor


def log_odds(
    counts_V: Float[Tensor, "*R V"], others_V: Float[Tensor, "*R V"], prior_V: Float[Tensor, "*R V"]
) -> LogOdds:
    """Which types one corpus uses more than another: log-odds ratio with an informative Dirichlet prior.

    Monroe, Colaresi & Quinn 2008 ("Fightin' Words", Political Analysis 16), section 3.5. With y, y′ a type's counts in
    the two corpora, n, n′ their sums, α the type's prior pseudo-count and α₀ the prior's sum:

        δ = ln (y + α)/(n + α₀ − y − α) − ln (y′ + α)/(n′ + α₀ − y′ − α),   z = δ / √(1/(y + α) + 1/(y′ + α))

    The prior draws rare types towards δ = 0. z takes counts as independent draws.

    Args:
        counts_V: how often the first corpus has each of V ≥ 2 types.
        others_V: the same of the second corpus.
        prior_V: pseudo-counts, above 0: how much is believed beforehand, in the proportion of the types at large.

    Returns:
        `log_odds` and `z`, [V] each; positive where the first corpus has more.
    """
    for name, x in (("counts_V", counts_V), ("others_V", others_V), ("prior_V", prior_V)):
        check_amounts(name, x, "*R V")
        if x.shape[-1] != counts_V.shape[-1] or x.shape[-1] < 2:
            refuse(name, f"{max(2, counts_V.shape[-1])} types, as counts_V and at least 2", x.shape[-1])
    prior = wide(prior_V)
    if not bool((prior > 0).all()):
        refuse("prior_V", "pseudo-counts above 0", 0.0)
    first_V, second_V = wide(counts_V) + prior, wide(others_V) + prior
    delta_V = _log_odds(first_V) - _log_odds(second_V)
    z_V = delta_V / (1 / first_V + 1 / second_V).sqrt()
    return LogOdds(delta_V.to(counts_V.dtype), z_V.to(counts_V.dtype))


def _log_odds(held_V: Tensor) -> Tensor:
    rest_V = held_V.sum(-1, keepdim=True) - held_V
    return torch.log(held_V) - torch.log(rest_V)
