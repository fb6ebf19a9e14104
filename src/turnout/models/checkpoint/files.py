"""Files of a checkpoint folder: which of them contain the weights, by transformers' own rule, and JSON objects.

Every verb that reads a checkpoint resolves its weight files here, so that all of them read the same tensors.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from safetensors import SafetensorError, safe_open

from turnout.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_OF_A_RANK = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")  # transformers' distributed checkpoints


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of a checkpoint folder, whether they exist or not.

    Attributes:
        files: the safetensors files, sorted.
        index: the index that names them; None for a single file.
        weight_map: tensor → file name, by the index; empty for a single file.
        notes: files that look like weights and are not read.
    """

    files: tuple[Path, ...]
    index: Path | None = None
    weight_map: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, with its shape and its dtype in safetensors' notation ("BF16")."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


def checkpoint_folder(source: str) -> Path | None:
    """The folder that `source` names; None for a hub id; ModelError for neither."""
    path = Path(source).expanduser()
    if source and path.is_dir():
        return path
    if source and path.exists():
        raise ModelError(source, expected="a folder with config.json and safetensors weights", received="a file")
    if not _HUB_ID.fullmatch(source):
        raise ModelError(source, expected="a folder, or a hub id such as org/name", received="no such folder")
    return None


def weight_files(folder: Path, config: Mapping[str, Any] | None = None) -> WeightFiles:
    """The weight files of a folder, as transformers chooses them.

    `transformers_weights` of the configuration names the file or the index; else model.safetensors is read if there is
    one, whatever an index beside it names; else the files of the index.

    Args:
        folder: the checkpoint.
        config: the content of its config.json; None reads the file if there is one.

    Raises:
        ModelError: the folder contains pickled weights only, none at all, the shards of a distributed checkpoint or a
            PEFT adapter beside its weights; or its index does not name files inside the folder.
    """
    if config is None:
        config = read_object(folder / "config.json") if (folder / "config.json").exists() else {}
    _refuse_other_forms(folder)
    named = config.get("transformers_weights")
    if named is not None:
        file = folder / inside(folder, named, folder / "config.json")
        return _by_index(folder, file) if file.name.endswith(".index.json") else WeightFiles((file,))
    if (folder / SINGLE).exists():
        return WeightFiles((folder / SINGLE,), notes=_unread(folder))
    if (folder / INDEX).exists():
        return _by_index(folder, folder / INDEX)
    pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
    received = f"pickled weights only ({pickles[0]})" if pickles else "no weights"
    convert = "save it again with transformers' save_pretrained, which writes safetensors" if pickles else None
    raise ModelError(folder, expected="model.safetensors", received=received, do=convert)


def read_weight_map(index: Path) -> dict[str, str]:
    """The map from tensor to file name in an index.

    Raises:
        ModelError: there is none, or it names a file outside the index's folder.
    """
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(index, expected='a "weight_map" from weight to file', received=repr(weight_map))
    return {name: inside(index.parent, file, index) for name, file in weight_map.items()}


def inside(folder: Path, name: object, where: Path) -> str:
    """`name`, a file's path relative to `folder`; ModelError if it leads out of it. Links are followed, as in a cache.

    Both separators count, so that a checkpoint is read or refused on every system alike.
    """
    parts = {*PurePosixPath(str(name)).parts, *PureWindowsPath(str(name)).parts}
    absolute = PurePosixPath(str(name)).is_absolute() or PureWindowsPath(str(name)).anchor
    if not isinstance(name, str) or not name or ".." in parts or absolute:
        raise ModelError(where, expected=f"the name of a file in {folder.name}", received=repr(name))
    return name


def check_weight_file(shard: Path) -> None:
    """Check that a safetensors file exists and that its header matches its length."""
    if not shard.is_file():
        raise ModelError(shard, expected="the weights that the index names", received="no such file")
    try:
        with safe_open(shard, framework="pt"):
            return
    except (SafetensorError, OSError) as error:
        raise ModelError(
            shard, expected="a whole safetensors file", received=error, do="copy or download it again"
        ) from error


def read_headers(files: Iterable[Path], wanted: Callable[[str], bool] = lambda _: True) -> dict[str, Stored]:
    """The tensors of weight files by name, from the files' headers; of a name in two files the last one counts."""
    tensors = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in filter(wanted, file.keys()):
                part = file.get_slice(name)
                tensors[name] = Stored(path, tuple(part.get_shape()), part.get_dtype())
    return tensors


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ModelError if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(path.parent, expected=f"a checkpoint with {path.name}", received="none") from error
    except (OSError, ValueError) as error:
        raise ModelError(path, expected="JSON", received=error) from error
    if not isinstance(content, dict):
        raise ModelError(path, expected="a JSON object", received=type(content).__name__)
    return content


def _by_index(folder: Path, index: Path) -> WeightFiles:
    weight_map = read_weight_map(index)
    return WeightFiles(tuple(sorted({folder / file for file in weight_map.values()})), index, weight_map)


def _unread(folder: Path) -> tuple[str, ...]:
    """A note on shards that an index names beside model.safetensors, which is the file that transformers reads."""
    if not (folder / INDEX).exists():
        return ()
    try:
        others = sorted(set(read_weight_map(folder / INDEX).values()) - {SINGLE})
    except ModelError:
        return (f"{SINGLE} is read; {INDEX}, which cannot be read, not",)
    if not others:
        return ()
    rest = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return (f"{SINGLE} is read; {others[0]}{rest}, which {INDEX} names, not",)


def _refuse_other_forms(folder: Path) -> None:
    """Refuse a folder from which transformers would load something else or more than its weight files."""
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            folder,
            expected="a checkpoint by itself",
            received="a PEFT adapter (adapter_config.json) beside it",
            do="merge it with PEFT's merge_and_unload and save that, or move it to a folder of its own",
        )
    if any(_OF_A_RANK.fullmatch(file.name) for file in folder.iterdir()):
        raise ModelError(
            folder,
            expected=f"{SINGLE} or the shards of {INDEX}",
            received="a distributed checkpoint",
            do="load it with transformers on as many processes, save_pretrained it, and pass that folder",
        )
