"""Batches of prompts: which prompts go together, padding, and the places of the real tokens.

Shapes: B prompts of a batch, T their real tokens, one prompt after another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PaddedBatch:
    """A padded batch and the places of its real tokens.

    Attributes:
        ids: token ids [B, length].
        mask: True where a token is real, [B, length].
        lengths_B: real tokens of each prompt.
        token_T: place of each real token in the flattened batch.
        sample_T: index of the prompt that each real token belongs to.
        end_B: end of each prompt's range in T (exclusive).
        padding: "right" or "left".
    """

    ids: Tensor
    mask: Tensor
    lengths_B: list[int]
    token_T: Tensor
    sample_T: Tensor
    end_B: Tensor
    padding: str

    @property
    def padded(self) -> bool:
        """Whether there is any padding."""
        return self.ids.numel() != len(self.token_T)

    @property
    def last_B(self) -> Tensor:  # noqa: N802  a shape suffix
        """Place of each prompt's last token in the flattened batch."""
        return self.token_T[self.end_B - 1]

    def model_inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of the model's forward; padding on the right needs no mask under causal attention."""
        if not self.padded or self.padding == "right":
            return {"input_ids": self.ids}
        mask = self.mask.long()
        return {
            "input_ids": self.ids,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp_min(0),
        }


def pad(prompts: Sequence[Sequence[int]], padding: str, device: torch.device) -> PaddedBatch:
    """`prompts` (token ids, none empty) padded with token 0 on the `padding` side, on `device`."""
    lengths = [len(prompt) for prompt in prompts]
    longest = max(lengths)
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        where = slice(0, len(prompt)) if padding == "right" else slice(longest - len(prompt), longest)
        ids[row, where] = torch.as_tensor(prompt)
        mask[row, where] = True
    length_B = torch.tensor(lengths)
    return PaddedBatch(
        ids=ids.to(device),
        mask=mask.to(device),
        lengths_B=lengths,
        token_T=mask.reshape(-1).nonzero().squeeze(1),
        sample_T=torch.arange(len(prompts)).repeat_interleave(length_B),
        end_B=length_B.cumsum(0),
        padding=padding,
    )


def plan_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group samples into batches of at most `token_budget` tokens, padding included; a longer sample is alone.

    Samples are ordered by (length, index), which keeps the padding small; the plan depends on nothing else.

    Returns:
        For each batch the indices of its samples.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget must be at least 1, got {token_budget}")
    plan: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if plan and (len(plan[-1]) + 1) * lengths[index] <= token_budget:
            plan[-1].append(index)
        else:
            plan.append([index])
    return plan
