"""The joint MoE law: loss from active parameters, tokens and the number of top-1 experts (arXiv 2502.05172)."""

import math

from turnout.sparsity.laws.law import Law, Prediction, Scale, outside

NAME = "joint MoE"
_A, _ALPHA, _DELTA, _GAMMA = 35.91, -0.1889, -0.2285, 0.0098
_B, _BETA, _OMEGA, _ZETA = 35.98, -0.1775, 0.5529, -0.0259
_E_START, _E_MAX, _C = 2.0732, 290.4521, 1.3637


def joint_moe_loss(*, active: float, tokens: float, experts: float) -> float:
    """L = a·Ê^δ·N^(α + γ ln Ê) + b·Ê^ω·D^(β + ζ ln Ê) + c (Eq. 6; coefficients of its Table 3).

    Ê saturates at both ends (Eq. 4): 1/Ê = 1/(E − 1 + (1/E_start − 1/E_max)⁻¹) + 1/E_max.

    Args:
        active: N, active parameters with both embeddings.
        tokens: D.
        experts: E, of which one is chosen; 1 is a dense model.
    """
    inner = experts - 1 + 1 / (1 / _E_START - 1 / _E_MAX)
    hat = 1 / (1 / inner + 1 / _E_MAX)
    size = _A * hat**_DELTA * active ** (_ALPHA + _GAMMA * math.log(hat))
    data = _B * hat**_OMEGA * tokens ** (_BETA + _ZETA * math.log(hat))
    return size + data + _C


def _predict(scale: Scale) -> Prediction:
    """Where several experts are chosen, E/K stands for E (ours): the law knows top-1 with full-width experts only."""
    active = scale.parameters.active
    warnings = (
        *outside("active parameters", active, 79e6, 2.7e9),
        *outside("tokens", scale.tokens, 500e6, 80e9),
        *outside("tokens an active parameter", scale.tokens / active, 0, 73),
        *outside("experts (E/K)", scale.expansion, 1, 32),
        *((f"top-{scale.top_k}: fitted on top-1; E/K stands for its E",) if scale.top_k > 1 else ()),
    )
    return Prediction(NAME, joint_moe_loss(active=active, tokens=scale.tokens, experts=scale.expansion), warnings)


JOINT_MOE = Law(
    name=NAME,
    source="Ludziejewski et al., arXiv 2502.05172",
    fitted_on="top-1, 1 to 32 experts, 79M to 2.7B active parameters with embeddings, 0.5B to 80B tokens, at most 73 "
    "tokens an active parameter",
    predict=_predict,
)
