"""Sizes of a MoE: parameters, FLOPs, memory, and the number of experts for a tokens-per-parameter target."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from turnout.ops._inputs import refuse


@dataclass(frozen=True)
class Parameters:
    """Parameters of a MoE: all of them, and those that one token passes; with and without the embeddings.

    The embeddings are the input's and the output's matrix, counted once where they are the same.
    """

    total: int
    active: int
    total_non_embedding: int
    active_non_embedding: int


def parameters(
    *, width: int, layers: int, experts: int, top_k: int, vocab: int, expert_width: int | None = None
) -> Parameters:
    """Parameters of the architecture of arXiv 2508.18672, exactly: N = L(3E·d·I + 4d² + d·E + 2d) + 2V·d + d.

    Per layer E SwiGLU experts, attention with as many key and value heads as query heads, a router and two norms; then
    two embeddings that are not tied, and a last norm. No biases, no shared experts. Active: K in place of the first E.
    With I = 2d the experts are the paper's 6E·d².

    >>> parameters(width=512, layers=16, experts=8, top_k=2, vocab=99584).active
    169165312

    Args:
        width: d.
        layers: L; each has experts.
        experts: E.
        top_k: K, 1…E.
        vocab: V.
        expert_width: I; None is 2·width, as in the paper.

    Raises:
        ValueError: a number below 1, or K > E.
    """
    wide = 2 * width if expert_width is None else expert_width
    check_shape_numbers(width=width, layers=layers, experts=experts, top_k=top_k, vocab=vocab, expert_width=wide)
    if top_k > experts:
        refuse("top_k", f"1 to {experts}, the number of experts", top_k)
    rest = layers * (4 * width**2 + width * experts + 2 * width) + width
    expert, embeddings = 3 * width * wide, 2 * vocab * width
    total, active = (layers * n * expert + rest for n in (experts, top_k))
    return Parameters(total + embeddings, active + embeddings, total, active)


def check_shape_numbers(**numbers: object) -> None:
    """Refuse (ValueError) a number of a model's shape that is no whole number of at least 1."""
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            refuse(name, "a whole number of at least 1", number)


def optimal_experts(
    *, tokens: float, tpp: float, width: int, layers: int, vocab: int, expert_width: int | None = None
) -> float:
    """How many experts give `tokens` / total parameters = `tpp` in the architecture of `parameters`.

    E* = (D/τ − [L(4d² + 2d) + 2V·d + d]) / (L(3d·I + d)): the total of `parameters` solved for E. No rounding; below 1
    where even a single expert is too many.

    >>> round(optimal_experts(tokens=125e9, tpp=20, width=1024, layers=16, vocab=99584), 1)
    59.4

    Args:
        tokens: D, training tokens.
        tpp: τ, tokens per total parameter; about 20 for reasoning (arXiv 2508.18672).
        width: d.
        layers: L.
        vocab: V.
        expert_width: I; None is 2·width.

    Raises:
        ValueError: a number that is not positive.
    """
    wide = 2 * width if expert_width is None else expert_width
    check_shape_numbers(width=width, layers=layers, vocab=vocab, expert_width=wide)
    for name, number in (("tokens", tokens), ("tpp", tpp)):
        if not 0 < number < math.inf:
            refuse(name, "a number above 0", number)
    rest = layers * (4 * width**2 + 2 * width) + 2 * vocab * width + width
    return (tokens / tpp - rest) / (layers * (3 * width * wide + width))


def tokens_per_parameter(tokens: float, total: int) -> float:
    """TPP: training tokens per *total* parameter, embeddings and idle experts included (arXiv 2508.18672).

    Raises:
        ValueError: a number that is not positive.
    """
    for name, number in (("tokens", tokens), ("total", total)):
        if not 0 < number < math.inf:
            refuse(name, "a number above 0", number)
    return tokens / total


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


@dataclass(frozen=True)
class Memory:
    """Bytes on all devices together, without fragmentation, buffers of communication or the runtime itself."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    cache: int

    @property
    def training(self) -> int:
        """All but the cache."""
        return self.weights + self.gradients + self.optimizer + self.activations

    @property
    def inference(self) -> int:
        """Weights and the key-value cache."""
        return self.weights + self.cache


def memory(
    *,
    total: int,
    activations: int,
    logits: int,
    cached: int,
    training_tokens: int,
    weight_bytes: int = 2,
    state_bytes: int = 4,
    master: bool = True,
) -> Memory:
    """What a model holds in training with AdamW, and in inference. Every expert's weights count, chosen or not.

    Weights and gradients take `weight_bytes` a parameter; AdamW two numbers of `state_bytes`, and with `master` a copy
    of the weights in them: 2 + 2 + 12 = 16 bytes a parameter in bfloat16 with float32 states. Activations take
    `weight_bytes` a number; logits are kept once like that and once more in float32 for the loss.

    Args:
        total: parameters.
        activations: numbers kept for the backward pass, a token (`layer_activations` over all layers).
        logits: vocabulary, or 0 for a loss that keeps none.
        cached: numbers in the key-value cache (`cached_numbers`).
        training_tokens: tokens of a micro-batch.
        weight_bytes: 2 for bfloat16, 4 for float32.
        state_bytes: of each of AdamW's two moments and of the master copy.
        master: whether AdamW keeps a copy of the weights; needed below float32.
    """
    for name, number in (("total", total), ("training_tokens", training_tokens), ("cached", cached)):
        if number < 0:
            refuse(name, "0 or more", number)
    kept = training_tokens * (activations * weight_bytes + logits * (weight_bytes + 4))
    return Memory(
        weights=total * weight_bytes,
        gradients=total * weight_bytes,
        optimizer=total * state_bytes * (3 if master else 2),
        activations=kept,
        cache=cached * weight_bytes,
    )


def layer_activations(*, width: int, attention: int, chosen: int, hidden: int, experts: int) -> int:
    """Numbers that a decoder layer keeps a token for its backward pass: a stated model, without recomputation.

    4d (inputs and outputs of both norms) + queries, keys, values and the attention's output + 2E (router logits and
    scores) + 2K·d (what each chosen expert gets and gives) + 4 for each hidden unit of a SwiGLU (gate, its activation,
    up, their product). A kernel like FlashAttention keeps no T×T matrix.

    Args:
        width: d.
        attention: h·d_qk + (key-value heads)·(d_qk + d_v) + h·d_v.
        chosen: K, 0 in a dense layer.
        hidden: hidden units that a token passes: K·I, and those of shared experts or of a dense layer.
        experts: E, 0 in a dense layer.
    """
    return 4 * width + attention + 2 * experts + 2 * chosen * width + 4 * hidden


def cached_numbers(cache_widths: Sequence[tuple[int, int | None]], context: int, sequences: int = 1) -> int:
    """Numbers in the key-value cache of `sequences` of `context` tokens each.

    Args:
        cache_widths: per layer what a token leaves there, and how many tokens back are kept (None: all). The width is
            2·(key-value heads)·(head size) in grouped-query attention; in multi-head latent attention (DeepSeek-V2,
            arXiv 2405.04434) that of the latent and the shared rotary key, kv_lora_rank + qk_rope_head_dim.
        context: tokens of a sequence.
        sequences: how many are served at once.
    """
    return sequences * sum(
        width * (context if window is None else min(window, context)) for width, window in cache_widths
    )
