"""Write a base checkpoint with the routers of an adapter, as a checkpoint that transformers loads by itself.

The base's files are copied as they are on disk, with their names and layout; only the tensors of the trained routers
differ.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, get_args

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor

from turnout.errors import ModelError
from turnout.listener import Listener
from turnout.models.change.adapter import RouterAdapter
from turnout.models.checkpoint.files import checkpoint_folder, weight_files
from turnout.models.wrap.anatomy import MoE
from turnout.runs import atomic

RouterDtype = Literal["checkpoint", "float32"]
ROUTER_DTYPES: tuple[RouterDtype, ...] = get_args(RouterDtype)
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".onnx", ".h5", ".msgpack", ".safetensors"}
_INDEX = ".safetensors.index.json"
_PROVENANCE = "router_adapter.json"
_COPIED = 1 << 24  # bytes at a time


@dataclass(frozen=True)
class _Place:
    """A tensor in a safetensors file."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]


def check_out(out: Path) -> None:
    """Raise ModelError unless `out` does not exist or is an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(out, expected="a new or empty folder", received="one that contains files")


def files_of(base: str | Path, revision: str | None) -> Path:
    """The checkpoint's folder; for a hub id that of transformers' download, with the files beside the weights."""
    folder = checkpoint_folder(str(base))
    if folder is not None:
        return folder
    ignored = [f"*{suffix}" for suffix in _OTHER_WEIGHTS - {".safetensors"}]
    return Path(snapshot_download(str(base), revision=revision, ignore_patterns=ignored))


def run(moe: MoE, folder: Path, trained: RouterAdapter, out: Path, dtype: RouterDtype, listener: Listener) -> None:
    """Copy the checkpoint in `folder` to `out`, with the trained routers in place of its own.

    Args:
        moe: the checkpoint, loaded; the adapter's base.
        folder: its files.
        trained: the adapter.
        out: a folder that does not exist or is empty.
        dtype: dtype of the routers in the files: the base's own, or float32.
        listener: receives progress in bytes.

    Raises:
        ModelError: a router whose numbers are not in the files (in a quantized checkpoint, for example).
        RunError: `out` cannot be written.
    """
    places = _places(folder, moe, trained)
    tensors = {place: _stored(trained.tensors[name], place, dtype) for name, place in places.items()}
    unfinished = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        _write(folder, unfinished, tensors, listener)
        (unfinished / _PROVENANCE).write_text(json.dumps(trained.encoded()[1], indent=2) + "\n", encoding="utf-8")
        unfinished.replace(out)
        atomic.sync_folder(out.parent)
    except OSError as error:
        raise atomic.write_error(out, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _stored(tensor: Tensor, place: _Place, dtype: RouterDtype) -> Tensor:
    return tensor.to(_DTYPES[place.dtype] if dtype == "checkpoint" else torch.float32).cpu().contiguous()


def _places(folder: Path, moe: MoE, trained: RouterAdapter) -> dict[str, _Place]:
    """Parameter name → place of each trained parameter in the base's files.

    Names on disk may differ from those in the model: of a layer's tensors, the router is the one with its numbers.
    """
    listed = [place for file in weight_files(folder).files for place in _listed(file)]
    parameters = dict(moe.model.named_parameters())
    places = {}
    for name in trained.tensors:
        if name not in parameters:
            raise ModelError(moe.model_id, expected=f"a parameter {name}", received="none")
        own = parameters[name].detach().cpu()
        same_shape = [p for p in listed if p.shape == tuple(own.shape) and p.dtype in _DTYPES]
        equal = [p for p in _by_likelihood(same_shape, name) if torch.equal(_tensor(p).to(own.dtype), own)]
        if not equal:
            expected = f"a tensor with the numbers of {name} in its files"
            raise ModelError(folder, expected=expected, received=f"none of shape {list(own.shape)}")
        places[name] = equal[0]
    return places


def _by_likelihood(places: Iterable[_Place], name: str) -> list[_Place]:
    """Tensors of the layer and kind (weight, bias) of the parameter `name`; one of the same name first."""
    parts = name.split(".")
    numbers = [part for part in parts if part.isdigit()]
    fitting = [p for p in places if [x for x in p.name.split(".") if x.isdigit()] == numbers]
    fitting = [p for p in fitting if p.name.split(".")[-1] == parts[-1]]
    return sorted(fitting, key=lambda p: (p.name != name, p.name))


def _listed(file: Path) -> list[_Place]:
    header, _ = _header(file)
    return [
        _Place(file, name, entry["dtype"], tuple(entry["shape"]))
        for name, entry in header.items()
        if name != "__metadata__"
    ]


def _tensor(place: _Place) -> Tensor:
    with safe_open(place.file, framework="pt") as file:
        return file.get_tensor(place.name)


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """Header of a safetensors file, and the offset of the first tensor."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return json.loads(stream.read(length)), 8 + length


def _write(folder: Path, target: Path, tensors: Mapping[_Place, Tensor], listener: Listener) -> None:
    """Copy the checkpoint to `target`, with `tensors` in their places and without weights in other formats."""
    atomic.make_folder(target)
    weights = weight_files(folder)
    for file in sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")):
        unread_index = file.name.endswith(_INDEX) and file != weights.index  # it names files that are not copied
        if file not in weights.files and file.suffix not in _OTHER_WEIGHTS and not unread_index:
            shutil.copyfile(file, target / file.name)
    size, done, total = sum(file.stat().st_size for file in weights.files), 0, 0
    for file in weights.files:
        new = {place.name: tensor for place, tensor in tensors.items() if place.file == file}
        copy = target / file.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        total += _copy_weights(file, copy, new)
        done += file.stat().st_size
        listener.progress("writing the weights", done, size, "bytes")
    if weights.index is not None:
        index_copy = target / weights.index.name
        index = json.loads(index_copy.read_text(encoding="utf-8"))
        if isinstance(index.get("metadata"), dict) and "total_size" in index["metadata"]:
            index["metadata"]["total_size"] = total
            index_copy.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _copy_weights(file: Path, target: Path, new: Mapping[str, Tensor]) -> int:
    """Copy one safetensors file with the tensors `new` in place of its own; returns the bytes of its tensors."""
    header, start = _header(file)
    order = sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    at, written = 0, {"__metadata__": header["__metadata__"]} if "__metadata__" in header else {}
    for name in order:
        first, end = header[name]["data_offsets"]
        size = new[name].nbytes if name in new else end - first
        dtype = _NAMES[new[name].dtype] if name in new else header[name]["dtype"]
        written[name] = {"dtype": dtype, "shape": header[name]["shape"], "data_offsets": [at, at + size]}
        at += size
    encoded = json.dumps(written, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with file.open("rb") as source, target.open("wb") as sink:
        sink.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in order:
            if name in new:
                sink.write(new[name].view(torch.uint8).numpy().tobytes())
            else:
                first, end = header[name]["data_offsets"]
                _copy_range(source, sink, start + first, end - first)
        sink.flush()
        os.fsync(sink.fileno())
    return at


def _copy_range(source: IO[bytes], sink: IO[bytes], start: int, size: int) -> None:
    source.seek(start)
    while size > 0:
        data = source.read(min(size, _COPIED))
        if not data:
            raise OSError(f"{source.name} ended early")
        sink.write(data)
        size -= len(data)
