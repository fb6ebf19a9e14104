"""What a MoE's size comes to, in numbers that its FLOPs and memory follow from, however they were counted."""

from dataclasses import dataclass

from turnout.ops import Parameters

Widths = tuple[tuple[int, int | None], ...]
"""Per layer a width, and how many tokens back it reaches; None: all."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of one MoE.

    Attributes:
        name: what it is called.
        width: d.
        layers: decoder layers, with and without experts.
        moe_layers: those with experts.
        experts: E.
        top_k: K.
        shared: shared experts of a layer.
        expert_width: I of a routed expert.
        vocab: V.
        parameters: total and active, with and without embeddings.
        routed: parameters of all routed experts; K/E of them are active.
        active_products: active weights that multiply a token.
        attention_widths: h·d_qk + h·d_v a layer, and its window.
        cache_widths: numbers that a token leaves in the cache, a layer, and its window.
        activations: numbers that all layers keep a token for the backward pass.
        notes: what was left out or taken for something else.
    """

    name: str
    width: int
    layers: int
    moe_layers: int
    experts: int
    top_k: int
    shared: int
    expert_width: int
    vocab: int
    parameters: Parameters
    routed: int
    active_products: int
    attention_widths: Widths
    cache_widths: Widths
    activations: int
    notes: tuple[str, ...] = ()

    @property
    def sparsity(self) -> float:
        """1 − K/E."""
        return 1 - self.top_k / self.experts
