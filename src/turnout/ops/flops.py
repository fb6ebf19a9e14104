from collections.abc import Sequence
from dataclasses import dataclass

from turnout.ops._inputs import refuse


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one token's forward pass; a multiplication and an addition are two.

    Attributes:
        products: of the products with weights, language-model head included, embedding look-up not.
        attention: of queries with keys and of weights with values.
    """

    products: float
    attention: float

    @property
    def inference(self) -> float:
        """A forward pass."""
        return self.products + self.attention

    @property
    def training(self) -> float:
        """Forward and backward, the latter twice the former; recomputed activations are not counted."""
        return 3 * self.inference


def flops(
    *, active_products: int, attention_widths: Sequence[tuple[int, int | None]], context: int, causal: bool = True
) -> Flops:
    """The exact count of a token's matrix products: 2 for each active weight, 2·(h·d_qk + h·d_v) for each key.

    Norms, activations, the softmaxes and the optimizer are left out: they are no products, and few.

    Args:
        active_products: weights that multiply a token: attention's, router's, K experts', shared experts', the head's.
        attention_widths: per layer h·d_qk + h·d_v (2·width in plain multi-head attention), and how many tokens back
            it sees (None: all).
        context: tokens of the sequence, whose mean position the attention is counted at.
        causal: each token sees itself and those before it: (T + 1)/2 keys on average. False is the convention of the
            scaling laws and of kernels that do not skip: T keys.
    """
    if context < 1:
        refuse("context", "at least 1 token", context)
    attention = sum(2 * width * seen_keys(context, window, causal) for width, window in attention_widths)
    return Flops(2.0 * active_products, float(attention))


def seen_keys(context: int, window: int | None = None, causal: bool = True) -> float:
    """Keys that a token of a sequence of `context` tokens attends to, on average over its positions."""
    reach = context if window is None else min(window, context)
    if not causal:
        return float(reach)
    return (reach * (reach + 1) / 2 + (context - reach) * reach) / context


def rule_of_thumb_flops(active: int) -> Flops:
    """2·N a token forward, so 6·N in training: the rule of Kaplan et al. (arXiv 2001.08361), N being active parameters.

    Attention is left out. Whether N counts the embeddings is the caller's choice, and must be said: the joint MoE law
    (arXiv 2502.05172) counts both matrices.
    """
    return Flops(2.0 * active, 0.0)
