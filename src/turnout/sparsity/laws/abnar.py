"""The sparsity law of Abnar et al.: loss from total parameters, tokens and sparsity (arXiv 2501.12370)."""

from turnout.sparsity.laws.law import Law, Prediction, Scale, outside

NAME = "Abnar"
_A, _ALPHA, _B, _BETA, _C, _LAMBDA = 16612.5, 0.5962, 5455.67, 0.3954, 0.4598, -0.1666
_D, _DELTA, _GAMMA, _E = 17.26, 0.1603, 0.1595, 0.94


def abnar_loss(*, total: float, tokens: float, sparsity: float) -> float:
    """L = a/N^α + b/D^β + c/(1 − S)^λ + d/((1 − S)^δ·N^γ) + e (Eq. 6; coefficients of its Table 3).

    λ is negative: sparser is better but for the last term.

    Args:
        total: N, all parameters.
        tokens: D.
        sparsity: S = 1 − K/E, below 1.
    """
    dense = 1 - sparsity
    apart = _A / total**_ALPHA + _B / tokens**_BETA + _C / dense**_LAMBDA
    return apart + _D / (dense**_DELTA * total**_GAMMA) + _E


def _predict(scale: Scale) -> Prediction:
    warnings = [*outside("training FLOPs (6·N·D)", scale.training_flops, 3e19, 1e21)]
    if scale.sparsity > 0.95:
        warnings.append(f"sparsity {scale.sparsity:.3f}: fitted on 0 to 0.95; R² .68 at the held-out 0.98")
    loss = abnar_loss(total=scale.parameters.total, tokens=scale.tokens, sparsity=scale.sparsity)
    return Prediction(NAME, loss, tuple(warnings))


ABNAR = Law(
    name=NAME,
    source="Abnar et al., arXiv 2501.12370",
    fitted_on="sparsity 0 to 0.95 (0.98 held out: R² .68), 3e19 to 1e21 training FLOPs, sizes near the best for their "
    "compute",
    predict=_predict,
)
