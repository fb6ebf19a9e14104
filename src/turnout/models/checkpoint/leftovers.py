"""Stored tensors that a causal language model rightly leaves unused, recognized by their names.

Three kinds: parts of a larger model (prediction heads, vision and audio towers), which a result names; buffers that
transformers computes itself and scales of caches, which no figure depends on; and anything else, which is a weight that
the model should have used.
"""

import re

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_PREDICTION = re.compile(r"(?:^|\.)(?:mtp|nextn|eagle|medusa)(?:_\w+)?\.")
_TOWER = re.compile(
    r"(?:^|\.)(?:visual|vision\w*|vit|video\w*|image\w*|audio\w*|speech\w*|embed_(?:vision|audio)|talker|token2wav|code2wav"
    r"|multi_modal_projector|mm_projector|multimodal_projector|perceiver\w*|resampler)(?:\.|$)"
)
_COMPUTED = re.compile(
    r"(?:\.inv_freq|\.(?:cos|sin)_cached|(?:attn|attention)\.(?:masked_)?bias|(?:^|\.)position_ids"
    r"|[._](?:k|v|kv|q|prob)_?scale|\.kv_cache_scaling_factor|\.num_batches_tracked)$"
)


def is_prediction_head(name: str, n_layers: int | None) -> bool:
    """Whether a tensor is part of a multi-token prediction head, or of a layer beyond the model's `n_layers`."""
    return _PREDICTION.search(name) is not None or (
        n_layers is not None and not is_tower(name) and any(int(n) >= n_layers for n in _LAYER.findall(name))
    )


def is_tower(name: str) -> bool:
    """Whether a tensor is part of a vision or audio tower, or connects one to the language model."""
    return _TOWER.search(name) is not None


def is_leftover(name: str, n_layers: int | None) -> bool:
    """Whether a tensor belongs to a part of a larger model that a causal language model does not contain."""
    return is_prediction_head(name, n_layers) or is_tower(name)


def is_computed(name: str) -> bool:
    """Whether a tensor is a buffer that transformers computes itself, or a scale of a key-value cache."""
    return _COMPUTED.search(name) is not None


def is_in_model(name: str, prefix: str) -> bool:
    """Whether an unused tensor is named like a weight of the language model whose base model is named `prefix`."""
    return name.startswith((f"{prefix}.", "lm_head.")) or _LAYER.search(name) is not None
