"""How surprised a model is by given continuations. Shapes: B prompts of a batch, V vocabulary."""

from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from turnout.models.fast.experts import fast_experts, real_tokens
from turnout.models.fast.products import fast_linears
from turnout.models.wrap.contract import evaluating


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
