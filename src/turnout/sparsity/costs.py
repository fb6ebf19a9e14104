"""What one MoE costs: parameters, FLOPs, memory, tokens per parameter and each law's prediction, as a JSON object."""

from dataclasses import asdict
from typing import Any

from turnout.models.checkpoint.size import Size
from turnout.ops import (
    Memory,
    cached_numbers,
    flops,
    memory,
    rule_of_thumb_flops,
    tokens_per_parameter,
)
from turnout.sparsity.laws import LAWS, Prediction, Scale

CONVENTIONS = {
    "active": "parameters that one token passes: K of E routed experts, everything else whole; embeddings counted, but "
    "in …_non_embedding",
    "flops": "a multiplication and an addition are two. training, inference: every product of a forward pass (router "
    "and language-model head in, embedding look-up out) and causal attention at the mean position of the "
    "context; training is three times that, without recomputation. training_6n, inference_2n: 6·N and 2·N, "
    "N active with embeddings, attention left out",
    "memory": "bytes over all devices: bfloat16 weights and gradients, AdamW with float32 moments and master copy "
    "(16 bytes a parameter), activations of one sequence without recomputation, cache of one sequence; no buffers, no "
    "fragmentation",
    "tpp": "training tokens per total parameter, embeddings counted",
}


def configuration(size: Size, tokens: int | None, context: int) -> dict[str, Any]:
    """The costs of `size`, trained on `tokens` (None: what needs them is None) in sequences of `context`."""
    return {
        "name": size.name,
        "width": size.width,
        "layers": size.layers,
        "moe_layers": size.moe_layers,
        "experts": size.experts,
        "top_k": size.top_k,
        "shared": size.shared,
        "expert_width": size.expert_width,
        "vocab": size.vocab,
        "sparsity": size.sparsity,
        "parameters": {**asdict(size.parameters), "routed": size.routed},
        "tpp": None if tokens is None else tokens_per_parameter(tokens, size.parameters.total),
        "flops": _flops(size, tokens, context),
        "memory": _memory(size_memory(size, context)),
        "laws": [] if tokens is None else [_prediction(found) for found in predictions(size, tokens)],
        "notes": list(size.notes),
    }


def size_memory(size: Size, context: int) -> Memory:
    """Memory by the conventions above, for one sequence of `context` tokens."""
    return memory(
        total=size.parameters.total,
        activations=size.activations,
        logits=size.vocab,
        cached=cached_numbers(size.cache_widths, context),
        training_tokens=context,
    )


def predictions(size: Size, tokens: int) -> list[Prediction]:
    """Each law's answer."""
    return [law.predict(scale_of(size, tokens)) for law in LAWS]


def scale_of(size: Size, tokens: int) -> Scale:
    """What the laws look at."""
    return Scale(
        tokens=tokens,
        width=size.width,
        experts=size.experts,
        top_k=size.top_k,
        expert_width=size.expert_width,
        parameters=size.parameters,
    )


def _flops(size: Size, tokens: int | None, context: int) -> dict[str, float | None]:
    exact = flops(active_products=size.active_products, attention_widths=size.attention_widths, context=context)
    rule = rule_of_thumb_flops(size.parameters.active)
    return {
        "context": context,
        "inference": exact.inference,
        "inference_attention": exact.attention,
        "inference_2n": rule.inference,
        "training": exact.training,
        "training_6n": rule.training,
        "training_total": None if tokens is None else exact.training * tokens,
        "training_total_6n": None if tokens is None else rule.training * tokens,
    }


def _memory(found: Memory) -> dict[str, int]:
    return {**asdict(found), "training": found.training, "inference": found.inference}


def _prediction(found: Prediction) -> dict[str, Any]:
    return {
        "law": found.law,
        "loss": found.loss,
        "in_range": found.in_range,
        "warnings": list(found.warnings),
        "reason": found.reason,
    }
