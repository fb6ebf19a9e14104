"""Size of one MoE: the numbers that determine its FLOPs and memory, with the attention widths of a configuration."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnout.ops import Parameters

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_WHOLE = ("full_attention", "sliding_attention")
_WITHOUT_KEYS = ("conv", "linear_attention")

Widths = tuple[tuple[int, int | None], ...]
"""For each layer a width, and the attention window in tokens; None: no window."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of one MoE.

    Attributes:
        name: the model's name.
        width: d.
        layers: decoder layers, with and without experts.
        moe_layers: those with experts.
        experts: E.
        top_k: K.
        shared: shared experts of a layer.
        expert_width: I of a routed expert.
        vocab: V.
        parameters: total and active, with and without embeddings.
        routed: parameters of all routed experts; K/E of them are active.
        active_products: active weights that multiply a token.
        attention_widths: h·d_qk + h·d_v of each layer, and its window.
        cache_widths: numbers in the cache per token, of each layer, and its window.
        activations: numbers kept per token in all layers for the backward pass.
        notes: what was left out or approximated.
    """

    name: str
    width: int
    layers: int
    moe_layers: int
    experts: int
    top_k: int
    shared: int
    expert_width: int
    vocab: int
    parameters: Parameters
    routed: int
    active_products: int
    attention_widths: Widths
    cache_widths: Widths
    activations: int
    notes: tuple[str, ...] = ()

    @property
    def sparsity(self) -> float:
        """1 − K/E."""
        return 1 - self.top_k / self.experts


def attention_widths(config: "PreTrainedConfig") -> tuple[Widths, Widths, list[int], tuple[str, ...]]:
    """For each layer h·d_qk + h·d_v, numbers cached per token, and numbers kept for the backward pass; and notes."""
    heads, keys, values, cached, key_heads = _heads(config)
    scores = heads * (keys + values)
    stored = heads * keys + key_heads * (keys + values) + heads * values
    reach: list[tuple[int, int | None]] = []
    notes = set()
    for kind in _kinds(config):
        if kind in _WITHOUT_KEYS:
            reach.append((0, None))
            notes.add(f"{kind} layers: no keys counted, their state left out")
        elif kind not in _WHOLE:
            reach.append((1, None))
            notes.add(f"{kind} counted as full attention")
        else:
            reach.append((1, config.sliding_window if kind == "sliding_attention" else None))
    return (
        tuple((one * scores, window) for one, window in reach),
        tuple((one * cached, window) for one, window in reach),
        [one * stored for one, _ in reach],
        tuple(sorted(notes)),
    )


def _heads(config: "PreTrainedConfig") -> tuple[int, int, int, int, int]:
    """Query heads, width of a key and of a value, numbers cached per token and layer, key heads."""
    heads = config.num_attention_heads
    if getattr(config, "kv_lora_rank", None):  # multi-head latent attention: cached are the latent and one rotary key
        keys = config.qk_nope_head_dim + config.qk_rope_head_dim
        return heads, keys, config.v_head_dim, config.kv_lora_rank + config.qk_rope_head_dim, heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    return heads, size, size, 2 * key_heads * size, key_heads


def _kinds(config: "PreTrainedConfig") -> Iterator[str]:
    """The attention type of each layer, in the configuration's terms."""
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    plain = "sliding_attention" if windowed else "full_attention"
    kinds: Any = getattr(config, "layer_types", None) or [plain] * config.num_hidden_layers
    yield from kinds
