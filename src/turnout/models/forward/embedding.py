"""Texts as vectors, by the model's own eyes. Shapes: T real tokens of a batch, H hidden size."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from turnout.models.fast.experts import fast_experts, real_tokens
from turnout.models.fast.products import fast_linears
from turnout.models.forward.capture import plan_batches
from turnout.models.forward.padding import pad
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.contract import evaluating


def mean_hidden(moe: MoE, texts: Sequence[Sequence[int]], token_budget: int) -> Tensor:
    """The mean over its tokens of each text's last hidden state [N, H], float32; texts are token ids, none empty."""
    means: list[Tensor | None] = [None] * len(texts)
    with evaluating(moe.model), fast_experts(moe.model), fast_linears(moe.model):
        for batch in plan_batches([len(ids) for ids in texts], token_budget):
            for i, mean_H in zip(batch, _means(moe, [texts[i] for i in batch]), strict=True):
                means[i] = mean_H
    return torch.stack([mean_H for mean_H in means if mean_H is not None])


def _means(moe: MoE, texts: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    batch = pad(texts, "right", moe.model.get_input_embeddings().weight.device)
    with real_tokens(batch.mask.reshape(-1)):
        hidden = moe.model.base_model(**batch.asked(), use_cache=False).last_hidden_state
    real_TH = hidden.flatten(0, 1).index_select(0, batch.token_T.to(hidden.device)).float().cpu()
    return (part.mean(0) for part in real_TH.split(batch.lengths_B))
