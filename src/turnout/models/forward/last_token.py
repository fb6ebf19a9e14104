"""Forwards of each prompt's last token alone, through the tail, with cached keys and values of the tokens before it.

A change at the last token only (of its routing, say) leaves all other tokens as they are: attention is causal. Their
keys and values in the tail's layers are computed once, and every further forward has one token a prompt.

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
    """A batch with further keyword arguments for the model's forward."""

    more: dict[str, Any] = field(default_factory=dict)

    def model_inputs(self) -> dict[str, Any]:
        """Tokens, masks, positions and the cache."""
        return {"input_ids": self.ids, **self.more}


@dataclass(frozen=True, eq=False)
class LastToken:
    """The last tokens of prompts, with a cache of the tokens before them; use it inside `tail.opened()`.

    Attributes:
        tail: the layers that are run.
        prompts: at least two tokens each.
        states: the tail's input at the last tokens, [1, H] of each; empty where the tail is the whole model.
        cache: keys and values of the other tokens, padded on the left.
        width: tokens of a prompt in the cache, padding included.
    """

    tail: Tail
    prompts: Sequence[Sequence[int]]
    states: Sequence[Tensor]
    cache: DynamicCache
    width: int

    @classmethod
    @torch.no_grad()
    def of(cls, tail: Tail, prompts: Sequence[Sequence[int]], states: Sequence[Tensor]) -> "LastToken":
        """Run all tokens but the last through the tail; `states` are its inputs, as `Tail.run_model` returns them."""
        model: Any = tail.moe.model
        cache = DynamicCache(config=model.config)
        device = model.get_input_embeddings().weight.device
        batch = pad([prompt[:-1] for prompt in prompts], "left", device)
        before = _Cached(**vars(batch), more={**_masked(batch.mask), "past_key_values": cache})
        tail.resume_batch(before, [hidden_TH[:-1] for hidden_TH in states])
        _fill(cache, tail.first, batch.ids)
        return cls(tail, prompts, [hidden_TH[-1:] for hidden_TH in states], cache, batch.ids.shape[1])

    def read(self) -> Reading:
        """Run the last tokens, with gradient where enabled. The same figures as `Tail.resume`, up to rounding."""
        device = self.tail.moe.model.get_input_embeddings().weight.device
        batch = pad([prompt[-1:] for prompt in self.prompts], "left", device)
        length_B = torch.tensor([len(prompt) for prompt in self.prompts])
        real_BT = torch.arange(self.width + 1) >= self.width + 1 - length_B.unsqueeze(1)
        masked = _masked(real_BT.to(device))
        masked["position_ids"] = masked["position_ids"][:, -1:]
        more = {**masked, "past_key_values": _copied(self.cache)}  # a forward appends to its cache
        return self.tail.resume_batch(_Cached(**vars(batch), more=more), self.states)

    def of_rows(self, rows: Tensor) -> "LastToken":
        """The same for some of the prompts, by index."""
        cache, chosen = _copied(self.cache), rows.tolist()
        cache.batch_select_indices(rows)
        states = [self.states[i] for i in chosen] if self.states else []
        return LastToken(self.tail, [self.prompts[i] for i in chosen], states, cache, self.width)


def _masked(real_BT: Tensor) -> dict[str, Tensor]:
    mask = real_BT.long()
    return {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp_min(0)}


def _fill(cache: DynamicCache, n_below: int, ids: Tensor) -> None:
    """Fill the cache of the layers below the tail, which never ran: models take the length from the first layer's."""
    for layer in range(n_below):
        empty = torch.zeros(ids.shape[0], 1, ids.shape[1], 1, device=ids.device)
        cache.update(empty, empty, layer)


def _copied(cache: DynamicCache) -> DynamicCache:
    """A shallow copy: the same tensors, and appending to it leaves the original unchanged."""
    new = copy.copy(cache)
    new.layers = [copy.copy(layer) for layer in cache.layers]
    return new
