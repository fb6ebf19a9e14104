"""Greedy and sampled continuations of prompts, one batch at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from turnout.models.fast.experts import fast_experts
from turnout.models.fast.products import fast_linears
from turnout.models.forward.batches import pad
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.contract import evaluating


def continue_greedily(
    moe: MoE | PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[list[int]]:
    """Greedy continuation of each prompt (token ids), without the token that ends it.

    A text ends at any id that the generation config or the tokenizer (a MoE has its own) names.
    """
    model, tokenizer = (moe.model, moe.tokenizer) if isinstance(moe, MoE) else (moe, tokenizer)
    return _generate(model, prompts, tokenizer, max_new_tokens=max_new_tokens, do_sample=False)


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    n: int,
    *,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[list[list[int]]]:
    """`n` sampled continuations of each prompt (token ids), drawn from softmax(logits / `temperature`).

    The same seed gives the same continuations. PyTorch's own generators are restored after the call.

    Returns:
        For each prompt its continuations, without the tokens that end them.
    """
    cuda = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        rows = _generate(
            model,
            prompts,
            tokenizer,
            max_new_tokens=max_new_tokens,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
            num_return_sequences=n,
        )
    return [rows[at : at + n] for at in range(0, len(rows), n)]


def _generate(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase | None, **settings: Any
) -> list[list[int]]:
    """Rows of new tokens, prompt after prompt, each up to the first token that ends a text."""
    ends = end_tokens(model, tokenizer)
    batch = pad(prompts, "left", model.get_input_embeddings().weight.device)
    config = GenerationConfig(eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0, **settings)
    with _generation_mode(model):
        out = model.generate(batch.ids, attention_mask=batch.mask.long(), generation_config=config)
    return [_until_end(row[batch.ids.shape[1] :].tolist(), ends) for row in out]


@contextmanager
def _generation_mode(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block `generate` is fast, without dropout, and ignores the checkpoint's own generation settings."""
    own = model.generation_config
    model.generation_config = GenerationConfig()  # transformers would take penalties and the like from it
    try:
        with evaluating(model), fast_experts(model), fast_linears(model):
            yield
    finally:
        model.generation_config = own


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> list[int]:
    """Every token id that ends a text: those of the generation config, then the tokenizer's."""
    named = [
        model.generation_config.eos_token_id if model.generation_config else None,
        None if tokenizer is None else tokenizer.eos_token_id,
    ]
    ids = [one for of in named if of is not None for one in ([of] if isinstance(of, int) else of)]
    return list(dict.fromkeys(ids))


def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens before the first of `ends`."""
    at = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:at]
