"""What a forward is read for: the letters' logits, and the routing scores at chosen tokens of every prompt.

Shapes: B prompts of a batch, H hidden size, U letters (or the vocabulary), R tokens whose routing is read, F scores:
the experts of all layers whose routers are read, one layer after another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from torch.nn import functional

from turnout.models.forward.answers import last_token_only
from turnout.models.forward.batches import PaddedBatch
from turnout.models.forward.router_forward import replaced_forward

Tokens = Literal["last", "last-three", "first"]
"""At which tokens of a prompt routing is read; over several it is the mean."""
TOKENS: tuple[Tokens, ...] = get_args(Tokens)


@dataclass(frozen=True)
class Reading:
    """What one forward said, with the gradient of whatever was trained.

    Attributes:
        logits_BU: logits of the letters (of the whole vocabulary where none were named) at the last token, float32.
        routing_BF: p of the layers that are read, one layer after another, float32.
    """

    logits_BU: Tensor
    routing_BF: Tensor


@contextmanager
def letters_only(head: nn.Module, letters: Tensor | None, batch: PaddedBatch) -> Iterator[None]:
    """The head sees each prompt's last token only, and of its rows those of the letters where they are named."""
    last_B = batch.last_B % batch.ids.shape[1]
    if letters is None or type(head) is not nn.Linear:
        with last_token_only(head, last_B):
            yield
        return
    rows_B = torch.arange(len(last_B))

    def few(hidden: Tensor) -> Tensor:
        hidden_B1H = hidden[rows_B.to(hidden.device), last_B.to(hidden.device)].unsqueeze(1).float()
        with align_module_device(head):  # weights that accelerate has offloaded
            weight_UH = head.weight[letters.to(head.weight.device)].to(hidden_B1H)
            bias_U = None if head.bias is None else head.bias[letters.to(head.bias.device)].to(hidden_B1H)
        return functional.linear(hidden_B1H, weight_UH, bias_U)

    with replaced_forward(head, few):
        yield


def read_tokens(batch: PaddedBatch, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Places [B, R] in the flattened batch of the tokens that are read, and their shares [B, R] in the mean."""
    length_B = torch.tensor(batch.lengths_B)
    if tokens == "first":
        place_B1 = batch.token_T[batch.end_B - length_B].unsqueeze(1)
        return place_B1, torch.ones(place_B1.shape)
    back_R = torch.arange(1 if tokens == "last" else 3)
    real_BR = back_R < length_B.unsqueeze(1)
    place_BR = batch.token_T[(batch.end_B.unsqueeze(1) - 1 - back_R).clamp(min=0)]
    return place_BR, real_BR / real_BR.sum(1, keepdim=True)


def alike(one: Reading, other: Reading, dtype: torch.dtype) -> bool:
    """Whether two readings agree up to the rounding of the model's dtype."""
    slack = 256 * torch.finfo(dtype).eps
    pairs = ((one.logits_BU, other.logits_BU), (one.routing_BF, other.routing_BF))
    return all(bool((a - b).abs().max() <= slack * a.abs().max()) for a, b in pairs)
