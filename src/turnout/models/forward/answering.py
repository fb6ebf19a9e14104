"""What the language-model head says of each sample's answer letters, at the last token and in float32.

Logits in bfloat16 have eight bits: letters that lie near one another tie, and the size of the batch, which decides how
hidden states are rounded, would decide between them. So the head's own product is taken in float32, of the same
weights.

Shapes: B samples of a batch, H hidden size, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from turnout.models.fast.products import linear

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
