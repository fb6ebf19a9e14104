"""Random checkpoints of a few thousand parameters, one for each family, with a byte-level tokenizer."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from turnout.models.wrap.families import register_own

SPECIAL = ("<pad>", "<bos>", "<eos>")
VOCABULARY = 256 + len(SPECIAL) + 5
CHAT_TEMPLATE = (
    "{% for m in messages %}<bos>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)

_ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "initializer_range": 0.2,
    "pad_token_id": 256,
    "bos_token_id": 257,
    "eos_token_id": 258,
    **_ATTENTION,
}
_MLA = {"q_lora_rank": None, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}

# What a family's configuration needs beyond the common part. Experts and chosen experts differ between families on
# purpose: E 8, K 2 unless the family's scoring needs more.
FAMILIES: dict[str, dict[str, Any]] = {
    "olmoe": {"num_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 16},
    "qwen2_moe": {
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
        "intermediate_size": 48,
        "mlp_only_layers": [1],
    },
    "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
    "deepseek_v2": {
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "n_shared_experts": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "intermediate_size": 48,
        "num_key_value_heads": 4,
        **_MLA,
    },
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 16},
    "gpt_oss": {
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "intermediate_size": 16,
        "head_dim": 8,
        "sliding_window": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "deepseek_v3": {
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "n_group": 4,
        "topk_group": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "intermediate_size": 48,
        "num_key_value_heads": 4,
        **_MLA,
    },
    "glm4_moe": {
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "intermediate_size": 48,
        "head_dim": 8,
    },
    "ernie4_5_moe": {
        "moe_num_experts": 8,
        "moe_k": 2,
        "moe_num_shared_experts": 2,
        "moe_intermediate_size": 16,
        "intermediate_size": 48,
    },
    "granitemoe": {"num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 16},
    "lfm2_moe": {
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "intermediate_size": 48,
        "num_dense_layers": 1,
        "layer_types": ["conv", "full_attention", "conv"],
    },
    "turnout_aoe": {"num_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 16},
    "phimoe": {"num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 16},
    # Families that do not keep the router contract, and a dense one.
    "llama4_text": {
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "intermediate_size": 16,
        "intermediate_size_mlp": 32,
        "head_dim": 8,
    },
    "jetmoe": {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 16, "kv_channels": 8},
    "llama": {"intermediate_size": 48},
}

# Families of single tests: whose correction bias transformers loads in the model's dtype; whose router returns scores.
SINGLE: dict[str, dict[str, Any]] = {
    "minimax_m2": {"num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 16, "head_dim": 8},
    "afmoe": {
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_shared_experts": 1,
        "moe_intermediate_size": 16,
        "intermediate_size": 48,
        "num_dense_layers": 1,
        "head_dim": 8,
    },
    "kimi_linear": {
        "num_experts": 8,
        "num_experts_per_token": 2,
        "num_shared_experts": 1,
        "moe_intermediate_size": 16,
        "intermediate_size": 48,
        "first_k_dense_replace": 1,
        **_MLA,
    },
    "laguna": {
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "intermediate_size": 48,
        "head_dim": 8,
    },
    "gemma4_text": {
        "enable_moe_block": True,
        "num_experts": 8,
        "top_k_experts": 2,
        "moe_intermediate_size": 16,
        "intermediate_size": 48,
        "head_dim": 8,
        "global_head_dim": 8,
        "hidden_size_per_layer_input": 0,
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    },
}

DENSE: dict[str, dict[str, Any]] = {
    "mistral": {"intermediate_size": 48, "sliding_window": 24},
    "qwen3": {"intermediate_size": 48, "head_dim": 8},
    "olmo2": {"intermediate_size": 48},
    "granite": {
        "intermediate_size": 48,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.3,
        "embedding_multiplier": 3.0,
        "logits_scaling": 2.0,
    },
    "qwen2": {"intermediate_size": 48},
}


def tiny_tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte (ids 0–255), then <pad>, <bos>, <eos>; nothing is added to a text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    pad, bos, eos = SPECIAL
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=eos)
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def random_model(family: str, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """A random model of `family` in float32, in evaluation mode; the same for the same seed."""
    register_own(family)
    config = AutoConfig.for_model(family, **{**_COMMON, **{**FAMILIES, **SINGLE, **DENSE}[family], **overrides})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name and parameter.std() == 0:  # biases start at 0 and would hide a mistake
                    parameter.normal_(std=0.2)
            for name, buffer in model.named_buffers():
                if name.endswith(("correction_bias", "expert_bias")):
                    buffer.normal_(std=0.2)
    return model.eval()


def tiny_model(
    family: str, path: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, chat: bool = False, **overrides: Any
) -> Path:
    """Save a random checkpoint of `family` (safetensors) and its tokenizer in `path`; returns `path`.

    `overrides` change the configuration (`num_hidden_layers=1`); `chat` gives the tokenizer a chat template.
    """
    random_model(family, seed, **overrides).to(dtype).save_pretrained(path)
    tiny_tokenizer(chat).save_pretrained(path)
    return Path(path)
