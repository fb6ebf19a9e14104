"""Costs of one MoE as a JSON object: parameters, FLOPs, memory, tokens per parameter, each law's prediction."""

from dataclasses import asdict
from typing import Any

from turnout.models.checkpoint.size import Size
from turnout.ops import Memory, cached_numbers, flops, memory, rule_of_thumb_flops, tokens_per_parameter
from turnout.sparsity.laws import LAWS, Prediction, Scale

CONVENTIONS = {
    "active": "parameters that one token uses: K of E routed experts, everything else whole; embeddings counted, "
    "except in …_non_embedding",
    "flops": "a multiplication and an addition are two. training, inference: every product of a forward pass (router "
    "and language-model head included, embedding look-up excluded) and causal attention at the mean position of the "
    "context; training is three times that, without recomputation. training_6n, inference_2n: 6·N and 2·N, "
    "N active with embeddings, attention left out",
    "memory": "bytes over all devices: bfloat16 weights and gradients, AdamW with float32 moments and master copy "
    "(16 bytes a parameter), activations of one sequence without recomputation, cache of one sequence; no buffers, no "
    "fragmentation",
    "tpp": "training tokens per total parameter, embeddings counted",
}


def configuration(size: Size, tokens: int | None, context: int) -> dict[str, Any]:
    """Costs of `size`, trained on `tokens` in sequences of `context`; with tokens None, what needs them is None."""
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
        "memory": _memory(memory_of(size, context)),
        "laws": [] if tokens is None else [_prediction(one) for one in predictions(size, tokens)],
        "notes": list(size.notes),
    }


def memory_of(size: Size, context: int) -> Memory:
    """Memory for one sequence of `context` tokens, by the conventions above."""
    return memory(
        total=size.parameters.total,
        activations=size.activations,
        logits=size.vocab,
        cached=cached_numbers(size.cache_widths, context),
        training_tokens=context,
    )


def predictions(size: Size, tokens: int) -> list[Prediction]:
    """Each law's prediction."""
    return [law.predict(scale_of(size, tokens)) for law in LAWS]


def scale_of(size: Size, tokens: int) -> Scale:
    """The quantities that the laws are functions of."""
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


def _memory(needed: Memory) -> dict[str, int]:
    return {**asdict(needed), "training": needed.training, "inference": needed.inference}


def _prediction(prediction: Prediction) -> dict[str, Any]:
    return {
        "law": prediction.law,
        "loss": prediction.loss,
        "in_range": prediction.in_range,
        "warnings": list(prediction.warnings),
        "reason": prediction.reason,
    }
