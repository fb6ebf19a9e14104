"""Random OLMoE models of any size, with the embedded model's tokenizer where one is needed."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, OlmoeConfig, PreTrainedModel, PreTrainedTokenizerBase

from turnout import embedded


def random_olmoe(
    *,
    layers: int,
    hidden: int,
    heads: int,
    experts: int,
    top_k: int,
    expert_width: int,
    vocabulary: int,
    context: int = 1024,
    **loading: Any,
) -> PreTrainedModel:
    """The same weights for the same sizes; `loading` goes to transformers' `from_config`."""
    config = OlmoeConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=expert_width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        num_experts=experts,
        num_experts_per_tok=top_k,
        max_position_embeddings=context,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, **loading).eval()


def embedded_tokenizer() -> PreTrainedTokenizerBase:
    """The embedded model's tokenizer, 8,192 tokens."""
    return AutoTokenizer.from_pretrained(embedded.model_path())
