"""Configuration of an AoE model: OLMoE's, and the rank of the experts' gates."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import OlmoeConfig


@strict
class AoeConfig(OlmoeConfig):  # type: ignore[misc]  # Any: transformers ships no types
    """OLMoE's keys, with the same meaning and defaults, and `expert_rank`.

    With `norm_topk_prob` False (the default) the chosen experts' weights are a softmax over the norms of all experts,
    as in arXiv 2512.23447; with True they are divided by their sum, which is a softmax over the K chosen norms.

    Args:
        expert_rank: r, the rank of each expert's gate matrix. None: H·I/(H+I), rounded, which keeps an expert's
            parameters at 3·H·I to within (H+I)/2; a model has E·H parameters a layer less than OLMoE, the routers'.

    Raises:
        ValueError: a rank below 1.
    """

    model_type = "turnout_aoe"
    base_model_tp_plan = None
    base_model_ep_plan = None

    expert_rank: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.expert_rank is None:
            self.expert_rank = matching_rank(self.hidden_size, self.intermediate_size)
        if self.expert_rank < 1:
            raise ValueError(f"expert_rank must be at least 1, got {self.expert_rank}")
        super().__post_init__(**kwargs)


def matching_rank(hidden_size: int, expert_width: int) -> int:
    """The rank r at which r·(H + I) is nearest to H·I (arXiv 2512.23447, section 4.1: 512 for 1536 and 768)."""
    return max(1, round(hidden_size * expert_width / (hidden_size + expert_width)))
