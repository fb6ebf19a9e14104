"""Read routers and gate matrices from a checkpoint's safetensors files, one expert at a time.

No model is built and no other weight is read, so that the checkpoint may be far larger than memory.

Shapes: N routed experts of a layer, H hidden size, I expert width.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from turnout.errors import ModelError
from turnout.models.checkpoint.contents import Contents, contents_of, read_contents
from turnout.models.checkpoint.expert_names import Gate, Place, is_wanted, places
from turnout.models.checkpoint.files import Stored, checkpoint_folder, read_object
from turnout.models.checkpoint.hub import fetch, fetch_weights
from turnout.models.checkpoint.quantized import EXPECTED, FLOATS, Quantized, quantization_method, weight_of
from turnout.models.checkpoint.reading import Part, part_of

REOPEN_AFTER = 256 << 20
"""Bytes read of a file before it is reopened: its mapped pages count as resident memory."""

_BYTES = {name: dtype.itemsize for name, dtype in FLOATS.items()}


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """One MoE layer of a checkpoint on disk.

    Attributes:
        place: the names of its tensors, and the parts of them that are gates.
        tensors: the file of each tensor.
    """

    place: Place
    tensors: Mapping[str, Stored]

    @property
    def layer(self) -> int:
        """The decoder layer's own number, from 0."""
        return self.place.layer

    @property
    def gated(self) -> bool:
        """Whether the experts have a gate; without one their first matrix is used instead."""
        return self.place.gated

    def router(self) -> Tensor:
        """R [N, H], in the checkpoint's dtype; float32 where that is quantized."""
        return _Mapped().part(self.place.router, self.tensors)[...].clone()

    def gates(self) -> Iterator[Tensor]:
        """W_g [H, I] of each expert in turn, in the checkpoint's dtype: a view of the file, not a copy in memory.

        Gates that are stored as codes and scales are dequantized to float32.
        """
        mapped = _Mapped()
        for gate in self.place.gates:
            yield _cut(mapped.part(gate.name, self.tensors), gate)


@dataclass(frozen=True, eq=False)
class StoredCheckpoint:
    """The MoE layers of a checkpoint on disk, by number."""

    model_id: str
    revision: str | None
    config: Mapping[str, Any]
    layers: tuple[StoredLayer, ...]
    notes: tuple[str, ...] = ()

    def describe(self) -> dict[str, object]:
        """Description of the checkpoint for a manifest, JSON values."""
        gates = [layer.tensors[layer.place.gates[0].name] for layer in self.layers]
        return {
            "id": self.model_id,
            "revision": self.revision,
            "architecture": next(iter(self.config.get("architectures") or []), None),
            "dtype": _dtype_name(gates[0]),
            "layers": [layer.layer for layer in self.layers],
            "experts": _one_or_all([len(layer.place.gates) for layer in self.layers]),
            "width": _one_or_all([layer.place.width for layer in self.layers]),
            "expert_width": _one_or_all([layer.place.expert_width for layer in self.layers]),
            "digest": self.digest,
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of names, shapes and dtypes, of the routers, and of one row of every gate.

        Not of all weights: reading those of a large checkpoint takes minutes, and training changes every row.
        """
        sha = hashlib.sha256()
        for layer in self.layers:
            mapped = _Mapped()
            sha.update(_bytes(layer.router()))
            for gate in layer.place.gates:
                stored = layer.tensors[gate.name]
                sha.update(f"{layer.layer} {gate} {stored.shape} {stored.dtype} ".encode())
                part = mapped.part(gate.name, layer.tensors)
                sha.update(_bytes(part[0] if gate.expert is None else part[gate.expert, 0]))
        return sha.hexdigest()


def read_stored(path_or_id: str | PathLike[str], revision: str | None = None) -> StoredCheckpoint:
    """Find the routers and experts in the files of a checkpoint folder or, with network, of a hub id.

    Of a hub id only configuration, index and the files with routers or experts are fetched.

    Raises:
        ModelError: no such checkpoint; a dense, quantized, damaged or incomplete one; or unknown tensor names.
    """
    source = str(path_or_id)
    folder = checkpoint_folder(source)
    contents = _hub_contents(source, revision) if folder is None else read_contents(folder, wanted=is_wanted)
    config, tensors = contents.config, contents.weights
    text = config.get("text_config", config)
    shapes = {name: stored.shape for name, stored in tensors.items()}
    try:
        layers = places(shapes, str(text.get("model_type", "")), contents.n_layers, source)
    except ModelError as error:
        raise _quantized(source, config, str(error.received)) or error from error
    for place in layers:
        for name in {place.router, *(gate.name for gate in place.gates)}:
            if tensors[name].dtype not in FLOATS and not isinstance(tensors[name], Quantized):
                received = f"{tensors[name].dtype} in {name}"
                raise _quantized(source, config, received) or ModelError(source, expected=EXPECTED, received=received)
    name = folder.resolve().name if folder else source
    found = tuple(StoredLayer(place, tensors) for place in layers)
    return StoredCheckpoint(name, revision, config, found, contents.notes)


def _quantized(source: str, config: Mapping[str, Any], received: str) -> ModelError | None:
    """The error for a checkpoint whose configuration states that it is quantized; None for others."""
    method = quantization_method(config)
    if method is None:
        return None
    do = "pass the checkpoint that it was made from"
    return ModelError(source, expected=EXPECTED, received=f"weights quantized with {method} ({received})", do=do)


def _hub_contents(source: str, revision: str | None) -> Contents:
    """The contents of a hub id's files with routers or experts, which are fetched."""
    config = fetch(source, "config.json", revision)
    files = fetch_weights(source, revision, lambda name: is_wanted(weight_of(name)))
    if not files:
        raise ModelError(source, expected="safetensors weights", received="none")
    return contents_of(config.parent, read_object(config), files, is_wanted)


def _dtype_name(stored: Stored) -> str:
    if isinstance(stored, Quantized):
        return f"{stored.dtype.lower()}, dequantized"
    return str(FLOATS[stored.dtype]).removeprefix("torch.")


class _Mapped:
    """One open file at a time, reopened after 256 MiB, which frees the pages that were read."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: Any = None
        self._read = 0

    def part(self, name: str, tensors: Mapping[str, Stored]) -> Part:
        """The weight `name`; ModelError if its file was removed or damaged meanwhile."""
        return part_of(name, tensors[name], self._slice)

    def _slice(self, path: Path, name: str) -> Any:
        if path != self._path or self._read > REOPEN_AFTER:
            self._file = None  # frees the old mapping first
            try:
                self._file = safe_open(path, framework="pt").__enter__()
            except (SafetensorError, OSError) as error:
                raise ModelError(path, expected="a whole safetensors file", received=error) from error
            self._path, self._read = path, 0
        part = self._file.get_slice(name)
        shape = part.get_shape()
        n_matrices = shape[0] if len(shape) > 2 else 1
        self._read += _BYTES.get(part.get_dtype(), 1) * torch.Size(shape).numel() // n_matrices
        return part


def _cut(part: Any, gate: Gate) -> Tensor:
    """W_g [H, I] of a stored tensor."""
    span = slice(gate.start, gate.stop)
    if gate.transposed:
        whole: Tensor = part[:, span] if gate.expert is None else part[gate.expert, :, span]
        return whole[:, :: gate.step]
    rows: Tensor = part[span] if gate.expert is None else part[gate.expert, span]
    return rows[:: gate.step].T


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _one_or_all(values: list[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else values
