"""`merge`: a base and its router adapter in; a checkpoint that transformers loads by itself out.

The base's files are copied as they lie on disk, under their own names and in their own layout; of the weights only the
trained routers' tensors are others.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor

from turnout.errors import ModelError
from turnout.models.change.adapter import RouterAdapter
from turnout.models.checkpoint.files import INDEX, checkpoint_folder, weight_files
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.load import load
from turnout.runs import atomic

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".onnx", ".h5", ".msgpack", ".safetensors"}
_PROVENANCE = "router_adapter.json"
_COPIED = 1 << 24  # bytes at a time


@dataclass(frozen=True)
class _Place:
    """A tensor in a safetensors file."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]


def merge(
    base: str | Path,
    adapter: str | Path,
    out: str | Path,
    dtype: Literal["checkpoint", "float32"] = "checkpoint",
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Write `base` with the adapter's routers to the new folder `out`, and say where it is.

    Every other tensor keeps its bytes. The base is loaded once, to see that it is the adapter's. Weights in other
    formats that lie beside the base's are not copied: they would hold the old routers.

    Args:
        base: the checkpoint's folder, or a hub id.
        adapter: a folder with a router adapter, such as an alignment's run.
        out: a folder that does not exist or is empty.
        dtype: the routers' dtype in the files: the tensor's own in the base, or float32.
        revision: of a hub id.
        trust_remote_code: run the checkpoint's own code.

    Raises:
        ModelError: no such base or adapter, an adapter of another base, a router that is not found in the base's files
            (in a quantised checkpoint, say), or `out` holds something.
        RunError: `out` cannot be written.
    """
    out, trained = Path(out), RouterAdapter.read(adapter)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(out, expected="a new or empty folder", received="one that holds something")
    moe = load(base, trained.dtype, revision=revision, trust_remote_code=trust_remote_code)
    trained.check(moe)
    folder = checkpoint_folder(str(base)) or _downloaded(str(base), revision)
    places = _places(folder, moe, trained)
    made = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        _write(folder, made, {place: _stored(trained.tensors[name], place, dtype) for name, place in places.items()})
        (made / _PROVENANCE).write_text(json.dumps(trained.encoded()[1], indent=2) + "\n", encoding="utf-8")
        made.replace(out)
        atomic.sync_folder(out.parent)
    except OSError as error:
        raise atomic.write_error(out, error) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return out


def _downloaded(hub_id: str, revision: str | None) -> Path:
    """The folder in which transformers' own download of `hub_id` lies, the files beside the weights included."""
    return Path(
        snapshot_download(
            hub_id, revision=revision, ignore_patterns=[f"*{s}" for s in _OTHER_WEIGHTS - {".safetensors"}]
        )
    )


def _stored(tensor: Tensor, place: _Place, dtype: str) -> Tensor:
    return tensor.to(_DTYPES[place.dtype] if dtype == "checkpoint" else torch.float32).cpu().contiguous()


def _places(folder: Path, moe: MoE, trained: RouterAdapter) -> dict[str, _Place]:
    """Where each trained parameter lies in the base's files.

    Names on disk may be others than in the model: of the tensors of a layer, a router is the one with its numbers.
    """
    listed = [place for file in weight_files(folder) for place in _listed(file)]
    parameters = dict(moe.model.named_parameters())
    found = {}
    for name in trained.tensors:
        if name not in parameters:
            raise ModelError(moe.model_id, expected=f"a parameter {name}", received="none such")
        own = parameters[name].detach().cpu()
        alike = [p for p in listed if p.shape == tuple(own.shape) and p.dtype in _DTYPES]
        same = [p for p in _by_likeness(alike, name) if torch.equal(_tensor(p).to(own.dtype), own)]
        if not same:
            expected = f"a tensor with the numbers of {name} in its files"
            raise ModelError(folder, expected=expected, received=f"none of shape {list(own.shape)}")
        found[name] = same[0]
    return found


def _by_likeness(places: Iterable[_Place], name: str) -> list[_Place]:
    """Tensors of the same layer and kind (weight, bias) as the parameter `name`; one of that very name first."""
    parts = name.split(".")
    numbers = [part for part in parts if part.isdigit()]
    fit = [p for p in places if [x for x in p.name.split(".") if x.isdigit()] == numbers]
    fit = [p for p in fit if p.name.split(".")[-1] == parts[-1]]
    return sorted(fit, key=lambda p: (p.name != name, p.name))


def _listed(file: Path) -> list[_Place]:
    header, _ = _header(file)
    return [
        _Place(file, name, said["dtype"], tuple(said["shape"]))
        for name, said in header.items()
        if name != "__metadata__"
    ]


def _tensor(place: _Place) -> Tensor:
    with safe_open(place.file, framework="pt") as file:
        return file.get_tensor(place.name)


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """What a safetensors file says of its tensors, and where their bytes begin."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return json.loads(stream.read(length)), 8 + length


def _write(folder: Path, made: Path, tensors: Mapping[_Place, Tensor]) -> None:
    """Copy the checkpoint to `made`, with `tensors` in their places."""
    atomic.make_folder(made)
    weights = weight_files(folder)
    for file in sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")):
        if file not in weights and file.suffix not in _OTHER_WEIGHTS:
            shutil.copyfile(file, made / file.name)
    total = 0
    for file in weights:
        new = {place.name: tensor for place, tensor in tensors.items() if place.file == file}
        total += _copy_weights(file, made / file.name, new)
    if (made / INDEX).exists():
        index = json.loads((made / INDEX).read_text(encoding="utf-8"))
        if isinstance(index.get("metadata"), dict) and "total_size" in index["metadata"]:
            index["metadata"]["total_size"] = total
            (made / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _copy_weights(file: Path, target: Path, new: Mapping[str, Tensor]) -> int:
    """Copy one safetensors file, with the tensors `new` in place of its own; returns the bytes of its tensors."""
    header, begin = _header(file)
    order = sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    at, said = 0, {"__metadata__": header["__metadata__"]} if "__metadata__" in header else {}
    for name in order:
        start, end = header[name]["data_offsets"]
        size = new[name].nbytes if name in new else end - start
        dtype = _NAMES[new[name].dtype] if name in new else header[name]["dtype"]
        said[name] = {"dtype": dtype, "shape": header[name]["shape"], "data_offsets": [at, at + size]}
        at += size
    encoded = json.dumps(said, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with file.open("rb") as source, target.open("wb") as sink:
        sink.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in order:
            if name in new:
                sink.write(new[name].view(torch.uint8).numpy().tobytes())
            else:
                start, end = header[name]["data_offsets"]
                _copy_range(source, sink, begin + start, end - start)
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
