"""Greedy continuation of prompts, a batch at a time."""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, PreTrainedModel

from turnout.models.anatomy import MoE
from turnout.models.contract import evaluating
from turnout.models.experts import fast_experts
from turnout.models.products import fast_linears


def continue_greedily(moe: MoE | PreTrainedModel, prompts: Sequence[Sequence[int]], n: int) -> list[list[int]]:
    """The `n` most probable next tokens of each prompt, one after the other; fewer where the model ends its text."""
    model = moe.model if isinstance(moe, MoE) else moe
    longest, device = max(map(len, prompts)), model.get_input_embeddings().weight.device
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    seen = torch.zeros(len(prompts), longest, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.as_tensor(prompt)
        seen[row, longest - len(prompt) :] = 1
    ends = model.generation_config.eos_token_id if model.generation_config else None
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    settings = GenerationConfig(
        max_new_tokens=n, do_sample=False, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0
    )
    with evaluating(model), fast_experts(model), fast_linears(model):
        out = model.generate(ids.to(device), attention_mask=seen.to(device), generation_config=settings)
    return [_until(row[longest:].tolist(), ends) for row in out]


def _until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    at = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:at]
