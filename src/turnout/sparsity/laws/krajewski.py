"""The law of fine-grained experts at 64-fold expansion: parameters, tokens, granularity (arXiv 2402.07871)."""

from turnout.sparsity.laws.law import Law, Prediction, Scale, outside

NAME = "Krajewski"
EXPANSION = 64
_A, _ALPHA, _B, _BETA, _G, _GAMMA, _C = 18.1, 0.115, 30.8, 0.147, 2.1, 0.58, 0.47


def krajewski_loss(*, total_non_embedding: float, tokens: float, granularity: float) -> float:
    """L = c + (g/G^γ + a)/N^α + b/D^β (Eq. 9; coefficients of its Table 1, fitted at E = 64 alone).

    Args:
        total_non_embedding: N, all parameters but the embeddings.
        tokens: D.
        granularity: G, into how many experts a feed-forward layer is cut; so many are chosen.
    """
    size = (_G / granularity**_GAMMA + _A) / total_non_embedding**_ALPHA
    return _C + size + _B / tokens**_BETA


def _predict(scale: Scale) -> Prediction:
    """K stands for G: in the paper a token passes G experts, which together have a dense layer's 8d² parameters."""
    if scale.expansion != EXPANSION:
        reason = f"fitted at a {EXPANSION}-fold expansion alone; here E/K is {scale.expansion:.3g}"
        return Prediction(NAME, None, reason=reason)
    total, active_ratio = scale.parameters.total_non_embedding, 3 * scale.top_k * scale.expert_width / (8 * scale.width)
    warnings = [
        *outside("parameters without embeddings", total, 129e6, 3.7e9),
        *outside("tokens", scale.tokens, 16e9, 130e9),
        *outside("chosen experts (G)", scale.top_k, 1, 16),
    ]
    if not 0.5 <= active_ratio <= 2:
        warnings.append(f"chosen experts of {active_ratio:.2g} times the paper's 8d² parameters")
    loss = krajewski_loss(total_non_embedding=total, tokens=scale.tokens, granularity=scale.top_k)
    return Prediction(NAME, loss, tuple(warnings))


KRAJEWSKI = Law(
    name=NAME,
    source="Krajewski et al., arXiv 2402.07871",
    fitted_on="E/K = 64, 1 to 16 chosen experts, 129M to 3.7B parameters without embeddings, 16B to 130B tokens, "
    "expert-choice routing",
    predict=_predict,
)
