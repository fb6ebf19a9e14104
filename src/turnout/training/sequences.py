"""Training and evaluation sequences of fixed length, cut from a source's tokens.

A training sequence is T consecutive tokens of one source. Where documents are isolated, positions start again at 0 with
each document: transformers takes such positions for documents packed into one sequence, and lets no token attend to
another document. Not every family does; `require_isolation` tests a model before it trains.

Shapes: T tokens of a sequence.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from turnout.errors import RecipeError
from turnout.training.tokens import Tokens

_ROUNDING = 200  # steps of the dtype, of the largest logit; measured: below 30; 800 of a fresh model's convolutions


class Mixture(Dataset[dict[str, Tensor]]):
    """`n` training sequences [T] of several sources, in a seeded order; the number from each source follows its weight.

    Item i is {"input_ids", "labels"}, the same for the same arguments in every process. With `end`, the end-of-text
    token of isolated documents, it contains "position_ids" too.
    """

    def __init__(
        self,
        tokens: dict[str, Tokens],
        weights: dict[str, float],
        length: int,
        n: int,
        seed: int,
        end: int | None = None,
    ) -> None:
        self._tokens, self._length, self._end = [tokens[name] for name in weights], length, end
        rng = np.random.default_rng(seed)
        share = np.array(list(weights.values())) / sum(weights.values())
        counts = np.diff(np.round(np.concatenate([[0.0], np.cumsum(share)]) * n).astype(int))
        parts = [_starts(t, length, int(c), rng) for t, c in zip(self._tokens, counts, strict=True)]
        order = rng.permutation(n)
        self._source = np.repeat(np.arange(len(parts), dtype=np.int16), counts)[order]
        self._start = np.concatenate(parts)[order]

    def __len__(self) -> int:
        return len(self._start)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        """Sequence i."""
        start = int(self._start[i])
        ids = self._tokens[self._source[i]].ids[start : start + self._length]
        return _item(torch.from_numpy(ids.astype(np.int64)), self._end)


def windows(tokens: Tokens, length: int, limit: int, end: int | None = None) -> Dataset[dict[str, Tensor]]:
    """The first `limit` tokens as sequences of `length` without overlap; a shorter rest is left out.

    Args:
        tokens: one split of a source.
        length: T.
        limit: largest number of tokens.
        end: the end-of-text token of isolated documents; None: not isolated.
    """
    n = max(1, min(len(tokens.ids), limit) // length)
    rows = tokens.ids[: n * length].astype(np.int64)
    return _Rows(torch.from_numpy(rows).view(n, -1), end)


class _Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, rows: Tensor, end: int | None) -> None:
        self._rows, self._end = rows, end

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return _item(self._rows[i], self._end)


def positions(ids_T: Tensor, end: int) -> Tensor:
    """Each token's position in its own document [T]; a document ends with the token `end`."""
    at_T = torch.arange(len(ids_T))
    first_T = pad(ids_T[:-1] == end, (1, 0))
    return at_T - torch.where(first_T, at_T, 0).cummax(0).values


def require_isolation(model: PreTrainedModel) -> None:
    """Refuse a model whose output for a document depends on the document before it in the same sequence.

    Some families mix tokens by other means than attention (convolutions), or build attention masks of their own.

    Raises:
        RecipeError: such a model.
    """
    ids = torch.arange(2, 18, device=model.device).remainder(model.config.get_text_config().vocab_size)[None]
    half = ids.shape[1] // 2
    at = torch.arange(half, device=model.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        alone, after_another = (
            model(input_ids=tokens, position_ids=places[None], use_cache=False).logits[:, -half:]
            for tokens, places in ((ids[:, half:], at), (ids, torch.cat([at, at])))
        )
    model.train(was_training)
    if (after_another - alone).abs().max() > _ROUNDING * torch.finfo(alone.dtype).eps * alone.abs().max():
        expected = "a model that keeps documents of one sequence apart"
        do = "leave it out, or choose another architecture"
        raise RecipeError("data.isolated", expected=expected, received=model.config.model_type, do=do)


def _item(row_T: Tensor, end: int | None) -> dict[str, Tensor]:
    """The model's arguments for one sequence."""
    item = {"input_ids": row_T, "labels": row_T}
    return item if end is None else item | {"position_ids": positions(row_T, end)}


def _starts(tokens: Tokens, length: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """First tokens of `n` sequences: pass after pass over the source, each from another offset, in random order."""
    if n and len(tokens.ids) < length:
        received = f"{len(tokens.ids)} tokens"
        raise RecipeError(f"source {tokens.source}", expected=f"at least {length} training tokens", received=received)
    starts: list[NDArray[np.int64]] = []
    while sum(map(len, starts)) < n:
        offset = int(rng.integers(0, min(length, len(tokens.ids) - length + 1)))
        starts.append(rng.permutation(np.arange(offset, len(tokens.ids) - length + 1, length)))
    return np.concatenate([*starts, np.empty(0, np.int64)])[:n].astype(np.int64)
