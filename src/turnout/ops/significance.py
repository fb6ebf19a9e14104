"""Intervals, adjusted p-values and expected values under independence."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_amounts, refuse, wide

_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the share `correct` / `n`, within 0…1 (E. B. Wilson, 1927)."""
    share, z2 = correct / n, _Z**2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, min(share, center - half)), min(1.0, max(share, center + half))  # exact at 0 and n


def holm(p_N: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Holm's adjusted p-values: rejecting those of at most α keeps the chance of any false rejection at most α.

    Holm 1979: with p sorted, q(i) = max over j ≤ i of (N − j + 1)·p(j), at most 1; under any dependence of the tests.

    Args:
        p_N: p-values of N tests.
    """
    check_amounts("p_N", p_N, "N")
    if bool((p_N > 1).any()):
        refuse("p_N", "p-values from 0 to 1", p_N.max().item())
    p, order = wide(p_N).sort()
    n = len(p)
    scaled = p * torch.arange(n, 0, -1, dtype=p.dtype, device=p.device)
    adjusted = scaled.cummax(0).values.clamp(max=1)
    return torch.empty_like(p).scatter_(0, order, adjusted).to(p_N.dtype)


def benjamini_hochberg(p_N: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Benjamini–Hochberg adjusted p-values: rejecting those of at most α keeps the false discovery rate at most α.

    Benjamini & Hochberg 1995: with p sorted, q(i) = min over j ≥ i of N·p(j)/j, at most 1.

    Args:
        p_N: p-values of N tests, independent or positively dependent.
    """
    check_amounts("p_N", p_N, "N")
    if bool((p_N > 1).any()):
        refuse("p_N", "p-values from 0 to 1", p_N.max().item())
    p, order = wide(p_N).sort()
    n = len(p)
    scaled = p * n / torch.arange(1, n + 1, dtype=p.dtype, device=p.device)
    adjusted = scaled.flip(0).cummin(0).values.flip(0).clamp(max=1)
    return torch.empty_like(p).scatter_(0, order, adjusted).to(p_N.dtype)


class LogOdds(NamedTuple):
    """Log-odds ratio and its z-score, one for each type."""

    log_odds: Tensor
    z: Tensor


def log_odds(
    counts_V: Float[Tensor, "*R V"], others_V: Float[Tensor, "*R V"], prior_V: Float[Tensor, "*R V"]
) -> LogOdds:
    """Log-odds ratio of types between two corpora, with an informative Dirichlet prior, and its z-score.

    Monroe, Colaresi & Quinn 2008 ("Fightin' Words", Political Analysis 16), section 3.5. With y, y′ a type's counts in
    the two corpora, n, n′ their sums, α the type's prior pseudo-count and α₀ the prior's sum:

        δ = ln (y + α)/(n + α₀ − y − α) − ln (y′ + α)/(n′ + α₀ − y′ − α),   z = δ / √(1/(y + α) + 1/(y′ + α))

    The prior shrinks rare types towards δ = 0. z assumes that counts are independent draws.

    Args:
        counts_V: counts of each of V ≥ 2 types in the first corpus.
        others_V: the same in the second corpus.
        prior_V: pseudo-counts, above 0, in the proportion of the types overall; their sum is the weight of the prior.

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


def _log_odds(counts_V: Tensor) -> Tensor:
    rest_V = counts_V.sum(-1, keepdim=True) - counts_V
    return torch.log(counts_V) - torch.log(rest_V)


_STEPS = 100
_TOLERANCE = 1e-9  # largest error of a fitted share


def joint_inclusion(share_E: Float[Tensor, "E"], k: int) -> Float[Tensor, "E E"]:
    """Expected share of tokens that choose two experts together, under independent choices of exactly K.

    A token chooses exactly K experts, so the product of two experts' shares is not the chance level: a row of products
    sums to K·r_a − r_a², and K − 1 partners per token make (K − 1)·r_a. Here the chance level is the maximum-entropy
    choice of K experts with these shares, conditional Poisson sampling (Chen, Dempster & Liu 1994; Hájek 1964):

        P(S) ∝ Π_{e∈S} w_e for sets S of K,   w fitted such that P(e ∈ S) = r_e

    Args:
        share_E: the share r of tokens that choose each expert; sums to K.
        k: K, experts chosen for a token.

    Returns:
        [E, E], P(a and b ∈ S); the diagonal is `share_E`. Its off-diagonal rows sum to (K − 1)·r_a.
    """
    check_amounts("share_E", share_E, "E")
    share = wide(share_E).double()
    if not 1 <= k <= len(share) or bool((share > 1 + 1e-6).any()) or abs(share.sum().item() - k) > 1e-4 * k:
        refuse("share_E", f"shares from 0 to 1 that sum to k = {k}", f"{share.max().item()} at most, sum {share.sum()}")
    certain, never = share >= 1 - 1e-12, share <= 1e-12
    free = ~(certain | never)
    joint_EE = share[:, None] * share[None, :]  # exact for experts that are always or never chosen
    if bool(free.any()):
        rows = free.nonzero()[:, 0]
        joint_EE[rows[:, None], rows[None, :]] = _fitted(share[free], k - int(certain.sum()))
    joint_EE.fill_diagonal_(0)
    return (joint_EE + share.diag()).to(share_E.dtype)


def _fitted(share_E: Tensor, k: int) -> Tensor:
    """[E, E] for shares strictly between 0 and 1, by Newton's method on the convex likelihood in ln w."""
    theta_E = torch.logit(share_E)
    joint_EE = _joint(theta_E, k)
    error = _max_error(joint_EE, share_E)
    for _ in range(_STEPS):
        if error <= _TOLERANCE:
            break
        fitted_E = joint_EE.diagonal()
        covariance_EE = joint_EE - torch.outer(fitted_E, fitted_E) + 1 / len(share_E)  # 1/E: θ is defined up to a shift
        step_E = torch.linalg.solve(covariance_EE, share_E - fitted_E)
        scale = 1.0
        while scale > 1e-6:
            trial_E = theta_E + scale * step_E
            trial_EE = _joint(trial_E - trial_E.mean(), k)
            if _max_error(trial_EE, share_E) < error:
                break
            scale /= 2
        else:
            break
        theta_E, joint_EE, error = trial_E - trial_E.mean(), trial_EE, _max_error(trial_EE, share_E)
    return joint_EE


def _max_error(joint_EE: Tensor, share_E: Tensor) -> float:
    """The largest error of a fitted share; infinite for numbers that overflowed."""
    error = (joint_EE.diagonal() - share_E).abs().max().item()
    return error if error == error else float("inf")


def _joint(theta_E: Tensor, k: int) -> Tensor:
    """[E, E]: P(a and b ∈ S) under weights exp(θ); the diagonal is P(a ∈ S).

    P(a ∈ S) = w_a·e_{K−1}(without a) / e_K, and so on for pairs, with e_j the elementary symmetric polynomials: sums of
    positive terms only, without the cancellation of the usual recursions.
    """
    n = len(theta_E)
    w_E = theta_E.exp()
    skip_EE = torch.eye(n, dtype=torch.bool, device=theta_E.device)
    # Row a: the experts without a.
    kept_EE = w_E.expand(n, n).masked_fill(skip_EE, 0.0)
    before = _polynomials(kept_EE, k)
    after = _polynomials(kept_EE.flip(1), k).flip(0)
    whole_E = _polynomials(w_E[None], k)[-1, 0]
    one_E = w_E * before[-1, :, k - 1] / whole_E[k]
    if k == 1:
        return one_E.diag()
    # [b, a]: e_{K−2} of the experts without a and b.
    pair_EE = sum((before[:-1, :, j] * after[1:, :, k - 2 - j] for j in range(k - 1)), torch.zeros_like(kept_EE))
    joint_EE = w_E[:, None] * w_E[None, :] * pair_EE / whole_E[k]
    return joint_EE.masked_fill(skip_EE, 0.0) + one_E.diag()


def _polynomials(w_RE: Tensor, k: int) -> Tensor:
    """[E + 1, R, K + 1]: the elementary symmetric polynomials e_0…e_K of the first 0…E columns of each row."""
    rows, n = w_RE.shape
    e_RK = torch.zeros(rows, k + 1, dtype=w_RE.dtype, device=w_RE.device)
    e_RK[:, 0] = 1
    columns = [e_RK]
    for column in range(n):
        e_RK = e_RK.clone()
        e_RK[:, 1:] += columns[-1][:, :-1] * w_RE[:, column, None]
        columns.append(e_RK)
    return torch.stack(columns)
