"""Sampled continuations of prompts, a batch at a time; the same for the same seed."""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, PreTrainedModel

from turnout.models.forward.greedy import generating, left_padded, until_end


def sample(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], n: int, *, temperature: float, most: int, seed: int
) -> list[list[list[int]]]:
    """`n` continuations of each prompt, drawn from softmax(logits / `temperature`), of at most `most` tokens.

    PyTorch's own generator is seeded for the call and put back after it.

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
    with torch.random.fork_rng(devices=[]), generating(model):
        torch.manual_seed(seed)
        out = model.generate(ids.to(device), attention_mask=seen.to(device), generation_config=settings)
    written = [until_end(row[ids.shape[1] :].tolist(), ends) for row in out]
    return [written[at : at + n] for at in range(0, len(written), n)]
