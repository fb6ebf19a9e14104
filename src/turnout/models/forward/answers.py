"""Answer-letter logits in float32, continuation NLL, and bits of whole texts.

Shapes: B samples of a batch, H hidden size, V vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from turnout.models.fast.experts import fast_experts, real_tokens
from turnout.models.fast.products import fast_linears, linear
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.contract import evaluating

_ROWS = 8192  # of the vocabulary in float32 at a time


@contextmanager
def last_token_only(head: nn.Module, position_B: Tensor) -> Iterator[None]:
    """Inside it the head sees each sample's one position, [B, 1, H] of [B, length, H], and answers in float32.

    It hears its own thread only: other batches may be on their way through the same model.
    """
    thread = get_ident()

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if get_ident() != thread:
            return args
        hidden = args[0]
        rows = torch.arange(len(position_B), device=hidden.device)
        return (hidden[rows, position_B.to(hidden.device)].unsqueeze(1), *args[1:])

    def widen(_: nn.Module, args: tuple[Tensor, ...], said: Any) -> Any:
        if get_ident() != thread or type(head) is not nn.Linear or said.dtype not in (torch.float16, torch.bfloat16):
            return said
        return _in_float32(head, args[0].to(said.device))

    handles = [head.register_forward_pre_hook(keep), head.register_forward_hook(widen)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def choice_logprobs(logits_BV: Tensor, letters: Sequence[Sequence[int]]) -> list[list[float]]:
    """Log-probabilities of each sample's letters (token ids), over the whole vocabulary, in float32."""
    logprobs_BV = logits_BV.float().log_softmax(-1).cpu()
    return [row[list(ids)].tolist() for row, ids in zip(logprobs_BV, letters, strict=True)]


def _in_float32(head: nn.Linear, hidden_B1H: Tensor) -> Tensor:
    """The head's logits [B, 1, V], its weights widened a part of the vocabulary at a time."""
    hidden_B1H = hidden_B1H.float()
    with align_module_device(head):  # weights that accelerate has offloaded
        parts = [linear(hidden_B1H, rows.to(hidden_B1H)) for rows in head.weight.split(_ROWS)]
        bias = 0 if head.bias is None else head.bias.to(hidden_B1H)
    return torch.cat(parts, -1) + bias


def answer_nats(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[list[float]]:
    """−ln p of each token of each answer, given its prompt and the answer's tokens before it.

    One forward with padding on the right, which causal attention does not see; the logits of the whole batch are in
    memory.
    """
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    lengths, device = torch.tensor([len(row) for row in rows]), model.get_input_embeddings().weight.device
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.as_tensor(row)
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    with evaluating(model), fast_experts(model), fast_linears(model), real_tokens(real.reshape(-1).to(device)):
        logits = model(input_ids=ids.to(device), use_cache=False).logits
    found = []
    for at, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        first, last = len(prompt), len(prompt) + len(answer)
        target = ids[at, first:last].to(logits.device)
        found.append(
            functional.cross_entropy(logits[at, first - 1 : last - 1].float(), target, reduction="none").tolist()
        )
    return found


def text_bits(moe: MoE, texts: Sequence[Sequence[int]]) -> list[float]:
    """Bits that the model spends on each text (token ids): −Σ log₂ p of every token but the first, which it is given.

    One forward with padding on the right, which causal attention does not see; logits of the whole batch are in memory,
    so give at most a few hundred million logits. Sums are taken in float64.
    """
    lengths, device = [len(ids) for ids in texts], moe.model.get_input_embeddings().weight.device
    ids = torch.zeros(len(texts), max(lengths), dtype=torch.int64)
    for row, tokens in enumerate(texts):
        ids[row, : len(tokens)] = torch.as_tensor(tokens)
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    fast = fast_experts(moe.model), fast_linears(moe.model)
    with evaluating(moe.model), fast[0], fast[1], real_tokens(real.reshape(-1).to(device)):
        logits = moe.model(input_ids=ids.to(device), use_cache=False).logits
    bits = []
    for row, length in enumerate(lengths):
        target = ids[row, 1:length].to(logits.device)
        nats = functional.cross_entropy(logits[row, : length - 1].float(), target, reduction="none")
        bits.append(float(nats.cpu().double().sum()) / math.log(2))
    return bits
