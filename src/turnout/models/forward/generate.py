"""Greedy and sampled continuations of prompts, a batch at a time; the same for the same seed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from turnout.models.fast.experts import fast_experts
from turnout.models.fast.products import fast_linears
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.contract import evaluating


def continue_greedily(moe: MoE | PreTrainedModel, prompts: Sequence[Sequence[int]], n: int) -> list[list[int]]:
    """The `n` most probable next tokens of each prompt, one after the other; fewer where the model ends its text."""
    model = moe.model if isinstance(moe, MoE) else moe
    device = model.get_input_embeddings().weight.device
    ids, seen, ends = left_padded(model, prompts)
    settings = GenerationConfig(
        max_new_tokens=n, do_sample=False, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0
    )
    with generating(model):
        out = model.generate(ids.to(device), attention_mask=seen.to(device), generation_config=settings)
    return [until_end(row[ids.shape[1] :].tolist(), ends) for row in out]


@contextmanager
def generating(model: PreTrainedModel) -> Iterator[None]:
    """Inside, `generate` is fast, without dropout, and does what it is given, whatever the checkpoint ships."""
    shipped = model.generation_config
    model.generation_config = GenerationConfig()  # transformers fills in penalties and the like from it
    try:
        with evaluating(model), fast_experts(model), fast_linears(model):
            yield
    finally:
        model.generation_config = shipped


def left_padded(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, list[int]]:
    """Prompts as one tensor [B, T] with padding on the left, its mask, and the tokens that end the model's texts."""
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    seen = torch.zeros(len(prompts), longest, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.as_tensor(prompt)
        seen[row, longest - len(prompt) :] = 1
    ends = model.generation_config.eos_token_id if model.generation_config else None
    return ids, seen, [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens before the first that ends a text."""
    at = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:at]


def sample(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], n: int, *, temperature: float, most: int, seed: int
) -> list[list[list[int]]]:
    """`n` continuations of each prompt, drawn from softmax(logits / `temperature`), of at most `most` tokens.

    PyTorch's own generators are seeded for the call and restored after it.

    Returns:
        For each prompt its continuations, without the token that ended them.
    """
    device = model.get_input_embeddings().weight.device
    ids, seen, ends = left_padded(model, prompts)
    settings = GenerationConfig(
        max_new_tokens=most,
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        num_return_sequences=n,
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
    )
    cuda = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=cuda), generating(model):
        torch.manual_seed(seed)
        out = model.generate(ids.to(device), attention_mask=seen.to(device), generation_config=settings)
    written = [until_end(row[ids.shape[1] :].tolist(), ends) for row in out]
    return [written[at : at + n] for at in range(0, len(written), n)]
