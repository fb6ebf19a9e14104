"""Size of a MoE: parameters, FLOPs, memory, and the number of experts for a tokens-per-parameter target."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from turnout.ops._inputs import refuse


@dataclass(frozen=True)
class Parameters:
    """Parameters of a MoE: total and active for one token, with and without the embeddings.

    The embeddings are the input and output matrices, counted once where they are tied.
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
    """Refuse (ValueError) a dimension of a model that is not an integer of at least 1."""
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            refuse(name, "a whole number of at least 1", number)


def optimal_experts(
    *, tokens: float, tpp: float, width: int, layers: int, vocab: int, expert_width: int | None = None
) -> float:
    """Number of experts at which `tokens` / total parameters = `tpp`, in the architecture of `parameters`.

    E* = (D/τ − [L(4d² + 2d) + 2V·d + d]) / (L(3d·I + d)): the total of `parameters` solved for E. Not rounded; below 1
    where a single expert is already too large.

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
    """Floating-point operations of one token's forward pass; a multiply–add counts as two.

    Attributes:
        products: products with weights, including the language-model head, without the embedding look-up.
        attention: products of queries with keys and of attention weights with values.
    """

    products: float
    attention: float

    @property
    def inference(self) -> float:
        """FLOPs of a forward pass."""
        return self.products + self.attention

    @property
    def training(self) -> float:
        """FLOPs of forward and backward, the latter twice the former; recomputed activations are not counted."""
        return 3 * self.inference


def flops(
    *, active_products: int, attention_widths: Sequence[tuple[int, int | None]], context: int, causal: bool = True
) -> Flops:
    """Exact FLOPs of a token's matrix products: 2 for each active weight, 2·(h·d_qk + h·d_v) for each key.

    Norms, activation functions, softmaxes and the optimizer are left out: they are no matrix products, and small.

    Args:
        active_products: weights that multiply a token: attention's, router's, K experts', shared experts', the head's.
        attention_widths: for each layer h·d_qk + h·d_v (2·width in plain multi-head attention), and its window in
            tokens (None: no window).
        context: tokens of the sequence; attention is counted at their mean position.
        causal: each token attends to itself and those before it: (T + 1)/2 keys on average. False is the convention of
            the scaling laws and of kernels that compute all pairs: T keys.
    """
    if context < 1:
        refuse("context", "at least 1 token", context)
    attention = sum(2 * width * seen_keys(context, window, causal) for width, window in attention_widths)
    return Flops(2.0 * active_products, float(attention))


def seen_keys(context: int, window: int | None = None, causal: bool = True) -> float:
    """Mean number of keys that a token attends to, over the positions of a sequence of `context` tokens."""
    reach = context if window is None else min(window, context)
    if not causal:
        return float(reach)
    return (reach * (reach + 1) / 2 + (context - reach) * reach) / context


def rule_of_thumb_flops(active: int) -> Flops:
    """2·N per token forward, so 6·N in training: the rule of Kaplan et al. (arXiv 2001.08361), N active parameters.

    Attention is left out. Whether N includes the embeddings is the caller's choice and must be stated: the joint MoE
    law (arXiv 2502.05172) includes both matrices.
    """
    return Flops(2.0 * active, 0.0)


@dataclass(frozen=True)
class Memory:
    """Bytes over all devices, without fragmentation, communication buffers and the runtime itself."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    cache: int

    @property
    def training(self) -> int:
        """Bytes in training: everything but the cache."""
        return self.weights + self.gradients + self.optimizer + self.activations

    @property
    def inference(self) -> int:
        """Bytes in inference: weights and the key-value cache."""
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
    """Memory of a model in training with AdamW and in inference; every expert's weights count, chosen or not.

    Weights and gradients take `weight_bytes` per parameter; AdamW two numbers of `state_bytes`, and with `master` a
    copy of the weights of the same size: 2 + 2 + 12 = 16 bytes per parameter in bfloat16 with float32 states.
    Activations take `weight_bytes` per number; logits are stored once in that dtype and once in float32 for the loss.

    Args:
        total: parameters.
        activations: numbers kept for the backward pass per token (`layer_activations` over all layers).
        logits: vocabulary size, or 0 for a loss that stores no logits.
        cached: numbers in the key-value cache (`cached_numbers`).
        training_tokens: tokens of a micro-batch.
        weight_bytes: 2 for bfloat16, 4 for float32.
        state_bytes: bytes of each of AdamW's two moments and of the master copy.
        master: whether AdamW has a master copy of the weights; needed below float32.
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
    """Numbers that a decoder layer keeps per token for its backward pass, by a stated model without recomputation.

    4d (inputs and outputs of both norms) + queries, keys, values and the attention's output + 2E (router logits and
    scores) + 2K·d (each chosen expert's input and output) + 4 for each hidden unit of a SwiGLU (gate, its activation,
    up, their product). A kernel like FlashAttention stores no T×T matrix.

    Args:
        width: d.
        attention: h·d_qk + (key-value heads)·(d_qk + d_v) + h·d_v.
        chosen: K, 0 in a dense layer.
        hidden: hidden units per token: K·I, and those of shared experts or of a dense layer.
        experts: E, 0 in a dense layer.
    """
    return 4 * width + attention + 2 * experts + 2 * chosen * width + 4 * hidden


def cached_numbers(cache_widths: Sequence[tuple[int, int | None]], context: int, sequences: int = 1) -> int:
    """Numbers in the key-value cache of `sequences` sequences of `context` tokens.

    Args:
        cache_widths: for each layer the numbers per token, and its window in tokens (None: no window). The width is
            2·(key-value heads)·(head size) in grouped-query attention; in multi-head latent attention (DeepSeek-V2,
            arXiv 2405.04434) that of the latent and the shared rotary key, kv_lora_rank + qk_rope_head_dim.
        context: tokens of a sequence.
        sequences: number of concurrent sequences.
    """
    return sequences * sum(
        width * (context if window is None else min(window, context)) for width, window in cache_widths
    )
