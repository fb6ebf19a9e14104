"""Likelihood of answers: letter log-probabilities, NLL of continuations, bits of whole texts.

Letters are scored by the head's product in float32. Logits in bfloat16 have eight bits: letters with nearly equal
logits would tie, and the batch size, which changes how hidden states are rounded, would decide between them.

Shapes: B samples of a batch, T tokens, H hidden size, V vocabulary.
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

VOCABULARY_BLOCK = 8192  # rows of the vocabulary that are in float32 at a time


@contextmanager
def last_token_only(head: nn.Module, position_B: Tensor) -> Iterator[None]:
    """Inside the block the head computes one position of each sample, [B, 1, V] of hidden [B, T, H], in float32.

    Calls from other threads, which may run other batches through the same model, are not affected.
    """
    thread = get_ident()

    def select(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if get_ident() != thread:
            return args
        hidden = args[0]
        rows = torch.arange(len(position_B), device=hidden.device)
        return (hidden[rows, position_B.to(hidden.device)].unsqueeze(1), *args[1:])

    def widen(_: nn.Module, args: tuple[Tensor, ...], logits: Any) -> Any:
        half = logits.dtype in (torch.float16, torch.bfloat16)
        if get_ident() != thread or type(head) is not nn.Linear or not half:
            return logits
        return _in_float32(head, args[0].to(logits.device))

    handles = [head.register_forward_pre_hook(select), head.register_forward_hook(widen)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _in_float32(head: nn.Linear, hidden_B1H: Tensor) -> Tensor:
    """The head's logits [B, 1, V] in float32, its weights converted a part of the vocabulary at a time."""
    hidden_B1H = hidden_B1H.float()
    with align_module_device(head):  # loads weights that accelerate has offloaded
        parts = [linear(hidden_B1H, rows.to(hidden_B1H)) for rows in head.weight.split(VOCABULARY_BLOCK)]
        bias = 0 if head.bias is None else head.bias.to(hidden_B1H)
    return torch.cat(parts, -1) + bias


def choice_logprobs(logits_BV: Tensor, letters: Sequence[Sequence[int]]) -> list[list[float]]:
    """Log-probabilities of each sample's letters (token ids) over the whole vocabulary, computed in float32."""
    logprobs_BV = logits_BV.float().log_softmax(-1).cpu()
    return [row[list(ids)].tolist() for row, ids in zip(logprobs_BV, letters, strict=True)]


def answer_nats(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[list[float]]:
    """NLL in nats, −ln p, of each token of each answer, given its prompt and the answer's tokens before it.

    One forward; the logits [B, T, V] of the whole batch are in memory.
    """
    ids_BT, logits_BTV = _logits(model, [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)])
    ranges = ((len(prompt), len(prompt) + len(answer)) for prompt, answer in zip(prompts, answers, strict=True))
    return [_nats(ids_BT[row], logits_BTV[row], *limits).tolist() for row, limits in enumerate(ranges)]


def text_bits(moe: MoE, texts: Sequence[Sequence[int]]) -> list[float]:
    """Bits of each text (token ids) under the model: −Σ log₂ p over every token but the first, which has no context.

    One forward; the logits [B, T, V] of the whole batch are in memory, so give at most a few hundred million of them.
    Sums are taken in float64.
    """
    ids_BT, logits_BTV = _logits(moe.model, texts)
    nats = (_nats(ids_BT[row], logits_BTV[row], 1, len(text)) for row, text in enumerate(texts))
    return [float(nats_T.cpu().double().sum()) / math.log(2) for nats_T in nats]


def _logits(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids [B, T] on the CPU, padded on the right, which causal attention does not see; and logits [B, T, V]."""
    length_B, device = torch.tensor([len(row) for row in rows]), model.get_input_embeddings().weight.device
    ids_BT = torch.zeros(len(rows), int(length_B.max()), dtype=torch.int64)
    for at, row in enumerate(rows):
        ids_BT[at, : len(row)] = torch.as_tensor(row)
    real_BT = torch.arange(ids_BT.shape[1]) < length_B[:, None]
    with evaluating(model), fast_experts(model), fast_linears(model), real_tokens(real_BT.reshape(-1).to(device)):
        return ids_BT, model(input_ids=ids_BT.to(device), use_cache=False).logits


def _nats(ids_T: Tensor, logits_TV: Tensor, first: int, end: int) -> Tensor:
    """−ln p, in float32, of the tokens from `first` to before `end`."""
    target = ids_T[first:end].to(logits_TV.device)
    return functional.cross_entropy(logits_TV[first - 1 : end - 1].float(), target, reduction="none")
