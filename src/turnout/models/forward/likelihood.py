"""How surprised the model is by texts. Shapes: B texts of a batch, V vocabulary."""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from turnout.models.fast.experts import fast_experts, real_tokens
from turnout.models.fast.products import fast_linears
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.contract import evaluating


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
        bits.append(float(nats.double().sum()) / math.log(2))
    return bits
