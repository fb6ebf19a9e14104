from collections.abc import Sequence
from dataclasses import dataclass

from turnout.ops._inputs import refuse


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
