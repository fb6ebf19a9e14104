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
from transformers.utils import cached_file

from turnout.errors import ModelError
from turnout.models.checkpoint.expert_names import Gate, Place, is_wanted, places
from turnout.models.checkpoint.files import INDEX, check_weight_file, checkpoint_folder, read_object, weight_files

REOPEN_AFTER = 256 << 20
"""Bytes read of a file before it is reopened: its mapped pages count as resident memory."""
_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
_DEQUANTIZE = {
    "mxfp4": "load it with transformers' Mxfp4Config(dequantize=True), save_pretrained it, and pass that folder",
    "fp8": "load it with transformers' FineGrainedFP8Config(dequantize=True), save_pretrained it, and pass that folder",
}


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, with its shape and its dtype in safetensors' notation ("BF16")."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


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
        """R [N, H], in the checkpoint's dtype."""
        return _Mapped().slice(self.place.router, self.tensors)[:].clone()

    def gates(self) -> Iterator[Tensor]:
        """W_g [H, I] of each expert in turn, in the checkpoint's dtype: a view of the file, not a copy in memory."""
        mapped = _Mapped()
        for gate in self.place.gates:
            yield _cut(mapped.slice(gate.name, self.tensors), gate)


@dataclass(frozen=True, eq=False)
class StoredCheckpoint:
    """The MoE layers of a checkpoint on disk, by number."""

    model_id: str
    revision: str | None
    config: Mapping[str, Any]
    layers: tuple[StoredLayer, ...]

    def describe(self) -> dict[str, object]:
        """Description of the checkpoint for a manifest, JSON values."""
        gates = [layer.tensors[layer.place.gates[0].name] for layer in self.layers]
        return {
            "id": self.model_id,
            "revision": self.revision,
            "architecture": next(iter(self.config.get("architectures") or []), None),
            "dtype": str(_DTYPES[gates[0].dtype]).removeprefix("torch."),
            "layers": [layer.layer for layer in self.layers],
            "experts": _one_or_all([len(layer.place.gates) for layer in self.layers]),
            "width": _one_or_all([layer.place.width for layer in self.layers]),
            "expert_width": _one_or_all([layer.place.expert_width for layer in self.layers]),
            "digest": self.digest,
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
                part = mapped.slice(gate.name, layer.tensors)
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
    config = read_object(folder / "config.json" if folder else _fetch(source, "config.json", revision))
    tensors = _tensors(_files(folder) if folder else _hub_files(source, revision))
    text = config.get("text_config", config)
    shapes = {name: stored.shape for name, stored in tensors.items()}
    try:
        layers = places(shapes, str(text.get("model_type", "")), text.get("num_hidden_layers"), source)
    except ModelError as error:
        raise _quantized(source, config, str(error.received)) or error from error
    for place in layers:
        for name in {place.router, *(gate.name for gate in place.gates)}:
            if tensors[name].dtype not in _DTYPES:
                received = f"{tensors[name].dtype} in {name}"
                raise _quantized(source, config, received) or ModelError(source, expected=_FLOATS, received=received)
    name = folder.resolve().name if folder else source
    return StoredCheckpoint(name, revision, config, tuple(StoredLayer(place, tensors) for place in layers))


_FLOATS = "weights in bfloat16, float16, float32 or float64"


def _quantized(source: str, config: Mapping[str, Any], received: str) -> ModelError | None:
    """The error for a checkpoint whose configuration says that it is quantized; None for others."""
    how = config.get("quantization_config") or config.get("text_config", {}).get("quantization_config")
    if not isinstance(how, dict):
        return None
    method = str(how.get("quant_method", "an unnamed method"))
    do = _DEQUANTIZE.get(method, "pass the checkpoint that it was made from")
    return ModelError(source, expected=_FLOATS, received=f"weights quantized with {method} ({received})", do=do)


def _files(folder: Path) -> list[Path]:
    """A folder's weight files with routers or experts, each checked against its own header."""
    weight_map = _weight_map(folder / INDEX) if (folder / INDEX).exists() else None
    files = weight_files(folder)
    if weight_map is not None:
        wanted = {folder / file for name, file in weight_map.items() if is_wanted(name)}
        files = [file for file in files if file in wanted]
    for file in files:
        check_weight_file(file)
    return files


def _hub_files(source: str, revision: str | None) -> list[Path]:
    index = _fetch(source, INDEX, revision, optional=True)
    if not index.name:
        return [_fetch(source, "model.safetensors", revision)]
    wanted = {file for name, file in _weight_map(index).items() if is_wanted(name)}
    return [_fetch(source, file, revision) for file in sorted(wanted)]


def _fetch(source: str, name: str, revision: str | None, optional: bool = False) -> Path:
    """A file of a hub id, in the local cache; an empty path for an optional file that does not exist."""
    try:
        path = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=not optional)
    except (OSError, ValueError) as error:
        received = str(error).strip().splitlines()[0]
        raise ModelError(f"{source} ({name})", expected="a file of a hub checkpoint", received=received) from error
    return Path(path) if path else Path()


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(index, expected='a "weight_map" from weight to file', received=repr(weight_map))
    return {name: str(file) for name, file in weight_map.items()}


def _tensors(files: list[Path]) -> dict[str, Stored]:
    """Every tensor that may be a router's or an expert's, from the files' headers."""
    tensors = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in filter(is_wanted, file.keys()):
                part = file.get_slice(name)
                tensors[name] = Stored(path, tuple(part.get_shape()), part.get_dtype())
    return tensors


class _Mapped:
    """One open file at a time, reopened after 256 MiB, which frees the pages that were read."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: Any = None
        self._read = 0

    def slice(self, name: str, tensors: Mapping[str, Stored]) -> Any:
        """The tensor `name` as a safetensors slice; ModelError if its file was removed or damaged meanwhile."""
        stored = tensors[name]
        if stored.file != self._path or self._read > REOPEN_AFTER:
            self._file = None  # frees the old mapping first
            try:
                self._file = safe_open(stored.file, framework="pt").__enter__()
            except (SafetensorError, OSError) as error:
                raise ModelError(stored.file, expected="a whole safetensors file", received=error) from error
            self._path, self._read = stored.file, 0
        n_matrices = stored.shape[0] if len(stored.shape) == 3 else 1
        self._read += _DTYPES[stored.dtype].itemsize * torch.Size(stored.shape).numel() // n_matrices
        return self._file.get_slice(name)


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
