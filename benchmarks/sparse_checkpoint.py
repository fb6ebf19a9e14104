"""Checkpoints of real shapes that take next to no disk: routers and one layer hold numbers, the rest are holes.

A hole of a sparse file reads as zeros, through the same calls and at the same sizes as weights would.
"""

import json
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

_POOL = 100_003  # a prime: whatever the width, rows start at different places


@dataclass(frozen=True)
class Shapes:
    """A DeepSeek-V2 checkpoint's shapes; the default is DeepSeek-V2-Lite: 27 layers, 31.4 GB in bfloat16."""

    layers: int = 27
    experts: int = 64
    width: int = 2048
    expert_width: int = 1408
    vocabulary: int = 102_400
    shared: int = 2
    dense_width: int = 10_944
    heads: int = 16


def sparse_checkpoint(folder: Path, shapes: Shapes, *, fused: bool = False, shards: int = 4, filled: int = 1) -> int:
    """Write a bfloat16 checkpoint of `shapes` in `folder`; the gates of layer `filled` hold numbers. Returns its bytes.

    `fused`: all experts of a layer in one tensor, instead of three tensors an expert.
    """
    folder.mkdir(parents=True)
    tensors = _tensors(shapes, fused)
    names = list(tensors)
    per_shard = -(-len(names) // shards)
    weight_map, total = {}, 0
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        own = {name: tensors[name] for name in names[number * per_shard : (number + 1) * per_shard]}
        total += _write(folder / file, own, f".layers.{filled}.")
        weight_map |= dict.fromkeys(own, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(_config(shapes)))
    return total


def _tensors(s: Shapes, fused: bool) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor."""
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (s.vocabulary, s.width)}
    for layer in range(s.layers):
        at = f"model.layers.{layer}"
        tensors |= {
            f"{at}.self_attn.q_proj.weight": (192 * s.heads, s.width),
            f"{at}.self_attn.kv_a_proj_with_mqa.weight": (576, s.width),
            f"{at}.self_attn.kv_b_proj.weight": (256 * s.heads, 512),
            f"{at}.self_attn.o_proj.weight": (s.width, 128 * s.heads),
        }
        if layer == 0:
            tensors |= _mlp(f"{at}.mlp", s.width, s.dense_width)
            continue
        tensors[f"{at}.mlp.gate.weight"] = (s.experts, s.width)
        if fused:
            tensors[f"{at}.mlp.experts.gate_up_proj"] = (s.experts, 2 * s.expert_width, s.width)
            tensors[f"{at}.mlp.experts.down_proj"] = (s.experts, s.width, s.expert_width)
        else:
            for expert in range(s.experts):
                tensors |= _mlp(f"{at}.mlp.experts.{expert}", s.width, s.expert_width)
        tensors |= _mlp(f"{at}.mlp.shared_experts", s.width, s.shared * s.expert_width)
    return tensors | {"model.norm.weight": (s.width,), "lm_head.weight": (s.vocabulary, s.width)}


def _mlp(at: str, width: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{at}.gate_proj.weight": (inner, width),
        f"{at}.up_proj.weight": (inner, width),
        f"{at}.down_proj.weight": (width, inner),
    }


def _write(path: Path, tensors: dict[str, tuple[int, ...]], filled: str) -> int:
    header, at = {}, 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.truncate(8 + len(head) + at)
        for name, told in header.items():
            real = name.endswith("mlp.gate.weight") or (filled in name and "gate" in name and "experts" in name)
            if real:
                _fill(file, 8 + len(head) + told["data_offsets"][0], name, tuple(told["shape"]))
    return at


def _fill(file: BinaryIO, at: int, name: str, shape: tuple[int, ...]) -> None:
    """Write a tensor's numbers, of all experts in one tensor one after another."""
    file.seek(at)
    if len(shape) == 2:
        file.write(numbers(name, shape).tobytes())
        return
    for expert in range(shape[0]):
        file.write(numbers(f"{name}.{expert}", shape[1:]).tobytes())


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor's numbers as the upper half of float32, which bfloat16 is; the same for the same name.

    Drawn from a pool, which is quick; no row occurs twice in a tensor of fewer than 100,003 columns.
    """
    start = zlib.crc32(name.encode()) % _POOL
    return np.take(_pool(), np.arange(start, start + int(np.prod(shape))) % _POOL).reshape(shape)


@cache
def _pool() -> np.ndarray:
    values = np.random.default_rng(0).standard_normal(_POOL, dtype=np.float32) * np.float32(0.02)
    return (values.view(np.uint32) >> 16).astype("<u2")


def _config(s: Shapes) -> dict[str, object]:
    return {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "hidden_size": s.width,
        "moe_intermediate_size": s.expert_width,
        "intermediate_size": s.dense_width,
        "n_routed_experts": s.experts,
        "n_shared_experts": s.shared,
        "num_experts_per_tok": 6,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "vocab_size": s.vocabulary,
        "first_k_dense_replace": 1,
    }
