"""Published scaling laws of MoE models, each with the range that it was fitted on. None predicts reasoning or recall.

A warning is data beside its number; nothing is printed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from turnout.ops import Parameters
from turnout.quantities import show_count

EXPANSION = 64


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The quantities that a law is a function of."""

    tokens: int
    width: int
    experts: int
    top_k: int
    expert_width: int
    parameters: Parameters

    @property
    def expansion(self) -> float:
        """E/K: parameters of all routed experts over those of the chosen ones."""
        return self.experts / self.top_k

    @property
    def sparsity(self) -> float:
        """1 − K/E."""
        return 1 - self.top_k / self.experts

    @property
    def training_flops(self) -> float:
        """6·N·D, N active with embeddings: the laws' own measure of compute."""
        return 6.0 * self.parameters.active * self.tokens


@dataclass(frozen=True)
class Prediction:
    """A law's prediction.

    Attributes:
        law: the law's name.
        loss: nats a token of the law's own text and tokenizer; None where the law does not apply.
        warnings: quantities outside the range that the law was fitted on.
        reason: why the law does not apply; None where it does.
    """

    law: str
    loss: float | None
    warnings: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def in_range(self) -> bool:
        """Whether the law applies and every quantity is within the range that it was fitted on."""
        return self.loss is not None and not self.warnings


@dataclass(frozen=True)
class Law:
    """A published law.

    Attributes:
        name: its short name.
        source: authors and paper.
        fitted_on: the range that it was fitted on, in words.
        predict: Scale → Prediction.
    """

    name: str
    source: str
    fitted_on: str
    predict: Callable[[Scale], Prediction]


def _outside(what: str, value: float, low: float, high: float) -> tuple[str, ...]:
    """A warning if `value` is outside low…high (rounded as in the paper), else nothing."""
    if low <= value <= high:
        return ()
    span = f"on {show_count(low)} to {show_count(high)}" if low else f"up to {show_count(high)}"
    return (f"{show_count(value)} {what}: fitted {span}",)


def joint_moe_loss(*, active: float, tokens: float, experts: float) -> float:
    """L = a·Ê^δ·N^(α + γ ln Ê) + b·Ê^ω·D^(β + ζ ln Ê) + c (Eq. 6; coefficients of its Table 3).

    Ê saturates at both ends (Eq. 4): 1/Ê = 1/(E − 1 + (1/E_start − 1/E_max)⁻¹) + 1/E_max.

    Args:
        active: N, active parameters with both embeddings.
        tokens: D.
        experts: E, of which one is chosen; 1 is a dense model.
    """
    a, alpha, delta, gamma = 35.91, -0.1889, -0.2285, 0.0098
    b, beta, omega, zeta = 35.98, -0.1775, 0.5529, -0.0259
    e_start, e_max, c = 2.0732, 290.4521, 1.3637
    inner = experts - 1 + 1 / (1 / e_start - 1 / e_max)
    hat = 1 / (1 / inner + 1 / e_max)
    size = a * hat**delta * active ** (alpha + gamma * math.log(hat))
    data = b * hat**omega * tokens ** (beta + zeta * math.log(hat))
    return size + data + c


def _predict_joint_moe(scale: Scale) -> Prediction:
    """Prediction with E/K as the law's E where K > 1 (ours): it was fitted on top-1 with full-width experts only."""
    active = scale.parameters.active
    warnings = (
        *_outside("active parameters", active, 79e6, 2.7e9),
        *_outside("tokens", scale.tokens, 500e6, 80e9),
        *_outside("tokens an active parameter", scale.tokens / active, 0, 73),
        *_outside("experts (E/K)", scale.expansion, 1, 32),
        *((f"top-{scale.top_k}: fitted on top-1; E/K stands for its E",) if scale.top_k > 1 else ()),
    )
    return Prediction(
        "joint MoE", joint_moe_loss(active=active, tokens=scale.tokens, experts=scale.expansion), warnings
    )


JOINT_MOE = Law(
    name="joint MoE",
    source="Ludziejewski et al., arXiv 2502.05172",
    fitted_on="top-1, 1 to 32 experts, 79M to 2.7B active parameters with embeddings, 0.5B to 80B tokens, at most 73 "
    "tokens an active parameter",
    predict=_predict_joint_moe,
)


def abnar_loss(*, total: float, tokens: float, sparsity: float) -> float:
    """L = a/N^α + b/D^β + c/(1 − S)^λ + d/((1 − S)^δ·N^γ) + e (Eq. 6; coefficients of its Table 3).

    λ is negative: sparser is better, except in the last term.

    Args:
        total: N, all parameters.
        tokens: D.
        sparsity: S = 1 − K/E, below 1.
    """
    a, alpha, b, beta, c, lambda_ = 16612.5, 0.5962, 5455.67, 0.3954, 0.4598, -0.1666
    d, delta, gamma, e = 17.26, 0.1603, 0.1595, 0.94
    dense = 1 - sparsity
    apart = a / total**alpha + b / tokens**beta + c / dense**lambda_
    return apart + d / (dense**delta * total**gamma) + e


def _predict_abnar(scale: Scale) -> Prediction:
    warnings = [*_outside("training FLOPs (6·N·D)", scale.training_flops, 3e19, 1e21)]
    if scale.sparsity > 0.95:
        warnings.append(f"sparsity {scale.sparsity:.3f}: fitted on 0 to 0.95; R² .68 at the held-out 0.98")
    loss = abnar_loss(total=scale.parameters.total, tokens=scale.tokens, sparsity=scale.sparsity)
    return Prediction("Abnar", loss, tuple(warnings))


ABNAR = Law(
    name="Abnar",
    source="Abnar et al., arXiv 2501.12370",
    fitted_on="sparsity 0 to 0.95 (0.98 held out: R² .68), 3e19 to 1e21 training FLOPs, sizes near the best for their "
    "compute",
    predict=_predict_abnar,
)


def krajewski_loss(*, total_non_embedding: float, tokens: float, granularity: float) -> float:
    """L = c + (g/G^γ + a)/N^α + b/D^β (Eq. 9; coefficients of its Table 1, fitted at E = 64 alone).

    Args:
        total_non_embedding: N, all parameters but the embeddings.
        tokens: D.
        granularity: G, the number of experts that one feed-forward layer is split into, and the number chosen.
    """
    a, alpha, b, beta, g, gamma, c = 18.1, 0.115, 30.8, 0.147, 2.1, 0.58, 0.47
    size = (g / granularity**gamma + a) / total_non_embedding**alpha
    return c + size + b / tokens**beta


def _predict_krajewski(scale: Scale) -> Prediction:
    """Prediction with K as the law's G: its G chosen experts have a dense layer's 8d² parameters together."""
    if scale.expansion != EXPANSION:
        reason = f"fitted at a {EXPANSION}-fold expansion alone; here E/K is {scale.expansion:.3g}"
        return Prediction("Krajewski", None, reason=reason)
    total, active_ratio = scale.parameters.total_non_embedding, 3 * scale.top_k * scale.expert_width / (8 * scale.width)
    warnings = [
        *_outside("parameters without embeddings", total, 129e6, 3.7e9),
        *_outside("tokens", scale.tokens, 16e9, 130e9),
        *_outside("chosen experts (G)", scale.top_k, 1, 16),
    ]
    if not 0.5 <= active_ratio <= 2:
        warnings.append(f"chosen experts of {active_ratio:.2g} times the paper's 8d² parameters")
    loss = krajewski_loss(total_non_embedding=total, tokens=scale.tokens, granularity=scale.top_k)
    return Prediction("Krajewski", loss, tuple(warnings))


KRAJEWSKI = Law(
    name="Krajewski",
    source="Krajewski et al., arXiv 2402.07871",
    fitted_on="E/K = 64, 1 to 16 chosen experts, 129M to 3.7B parameters without embeddings, 16B to 130B tokens, "
    "expert-choice routing",
    predict=_predict_krajewski,
)


LAWS: tuple[Law, ...] = (JOINT_MOE, ABNAR, KRAJEWSKI)
