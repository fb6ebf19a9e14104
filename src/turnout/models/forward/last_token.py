"""The last tokens of prompts through the tail, again and again, with keys and values of the tokens before them kept.

What changes a model at the last token only (its routing, say) leaves all other tokens as they were: causal attention
lets nobody look ahead. So their keys and values in the tail's layers are computed once, and every further forward is
one token a prompt.

Shapes: B prompts of a batch, T tokens, H hidden size.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from turnout.models.forward.batches import PaddedBatch, pad
from turnout.models.forward.reading import Reading
from turnout.models.forward.tail import Tail


@dataclass(frozen=True)
class _Cached(PaddedBatch):
    """A batch whose forward is given more than its tokens."""

    more: dict[str, Any] = field(default_factory=dict)

    def asked(self) -> dict[str, Any]:
        """Tokens, masks, positions and the cache."""
        return {"input_ids": self.ids, **self.more}


@dataclass(frozen=True, eq=False)
class LastToken:
    """The last token of each prompt, ready to be read; use it inside `tail.opened()`.

    Attributes:
        tail: the layers that are run.
        prompts: at least two tokens each.
        entered: what entered the tail at the last tokens, [1, H] of each; nothing where the tail is the whole model.
        cache: keys and values of the other tokens, padded on the left.
        width: how many tokens of a prompt the cache holds, padding included.
    """

    tail: Tail
    prompts: Sequence[Sequence[int]]
    entered: Sequence[Tensor]
    cache: DynamicCache
    width: int

    @classmethod
    @torch.no_grad()
    def of(cls, tail: Tail, prompts: Sequence[Sequence[int]], entered: Sequence[Tensor]) -> "LastToken":
        """Run all tokens but the last through the tail, of prompts whose `entered` states the tail gave."""
        model: Any = tail.moe.model
        cache = DynamicCache(config=model.config)
        device = model.get_input_embeddings().weight.device
        batch = pad([prompt[:-1] for prompt in prompts], "left", device)
        before = _Cached(**vars(batch), more={**_masked(batch.mask), "past_key_values": cache})
        tail.resume_batch(before, [hidden_TH[:-1] for hidden_TH in entered])
        _fill(cache, tail.first, batch.ids)
        return cls(tail, prompts, [hidden_TH[-1:] for hidden_TH in entered], cache, batch.ids.shape[1])

    def read(self) -> Reading:
        """A forward of the last tokens; with gradient if on. The same figures as the tail's, up to rounding."""
        device = self.tail.moe.model.get_input_embeddings().weight.device
        batch = pad([prompt[-1:] for prompt in self.prompts], "left", device)
        length_B = torch.tensor([len(prompt) for prompt in self.prompts])
        real_BT = torch.arange(self.width + 1) >= self.width + 1 - length_B.unsqueeze(1)
        masked = _masked(real_BT.to(device))
        masked["position_ids"] = masked["position_ids"][:, -1:]
        more = {**masked, "past_key_values": _copied(self.cache)}  # a forward adds to the cache that it is given
        return self.tail.resume_batch(_Cached(**vars(batch), more=more), self.entered)

    def of_rows(self, rows: Tensor) -> "LastToken":
        """The same of some of the prompts."""
        cache, chosen = _copied(self.cache), rows.tolist()
        cache.batch_select_indices(rows)
        entered = [self.entered[i] for i in chosen] if self.entered else []
        return LastToken(self.tail, [self.prompts[i] for i in chosen], entered, cache, self.width)


def _masked(real_BT: Tensor) -> dict[str, Tensor]:
    mask = real_BT.long()
    return {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp_min(0)}


def _fill(cache: DynamicCache, n_below: int, ids: Tensor) -> None:
    """The layers below the tail never ran; a model asks the first layer's cache how many tokens there were."""
    for layer in range(n_below):
        nothing = torch.zeros(ids.shape[0], 1, ids.shape[1], 1, device=ids.device)
        cache.update(nothing, nothing, layer)


def _copied(cache: DynamicCache) -> DynamicCache:
    """A cache of the same tensors that can be added to without changing the first."""
    new = copy.copy(cache)
    new.layers = [copy.copy(layer) for layer in cache.layers]
    return new
