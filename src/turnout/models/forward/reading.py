"""Letter logits and routing scores of one forward: which head rows and which tokens they are computed for.

Shapes: B prompts of a batch, H hidden size, U letters (or the vocabulary), R tokens whose routing is used, F scores:
the experts of all layers whose routing is used, one layer after another.
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
"""The tokens of a prompt whose routing is used; of several tokens it is the mean."""
TOKENS: tuple[Tokens, ...] = get_args(Tokens)


@dataclass(frozen=True)
class Reading:
    """Logits and routing of one forward; with gradient where something was trained.

    Attributes:
        logits_BU: logits of the letters (of the whole vocabulary where there are none) at the last token, float32.
        routing_BF: p of the layers whose routing is used, one layer after another, float32.
    """

    logits_BU: Tensor
    routing_BF: Tensor


@contextmanager
def letters_only(head: nn.Module, letters: Tensor | None, batch: PaddedBatch) -> Iterator[None]:
    """Inside the block the head computes each prompt's last token only, and only the letters' logits if given."""
    last_B = batch.last_B % batch.ids.shape[1]
    if letters is None or type(head) is not nn.Linear:
        with last_token_only(head, last_B):
            yield
        return
    rows_B = torch.arange(len(last_B))

    def forward(hidden: Tensor) -> Tensor:
        hidden_B1H = hidden[rows_B.to(hidden.device), last_B.to(hidden.device)].unsqueeze(1).float()
        with align_module_device(head):  # loads weights that accelerate has offloaded
            weight_UH = head.weight[letters.to(head.weight.device)].to(hidden_B1H)
            bias_U = None if head.bias is None else head.bias[letters.to(head.bias.device)].to(hidden_B1H)
        return functional.linear(hidden_B1H, weight_UH, bias_U)

    with replaced_forward(head, forward):
        yield


def token_places(batch: PaddedBatch, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Places [B, R] in the flattened batch of the tokens whose routing is used, and their shares [B, R] in the mean."""
    length_B = torch.tensor(batch.lengths_B)
    if tokens == "first":
        place_B1 = batch.token_T[batch.end_B - length_B].unsqueeze(1)
        return place_B1, torch.ones(place_B1.shape)
    back_R = torch.arange(1 if tokens == "last" else 3)
    real_BR = back_R < length_B.unsqueeze(1)
    place_BR = batch.token_T[(batch.end_B.unsqueeze(1) - 1 - back_R).clamp(min=0)]
    return place_BR, real_BR / real_BR.sum(1, keepdim=True)


def alike(one: Reading, other: Reading, dtype: torch.dtype) -> bool:
    """Whether two readings are equal up to the rounding of the model's dtype."""
    tolerance = 256 * torch.finfo(dtype).eps
    pairs = ((one.logits_BU, other.logits_BU), (one.routing_BF, other.routing_BF))
    return all(bool((a - b).abs().max() <= tolerance * a.abs().max()) for a, b in pairs)
