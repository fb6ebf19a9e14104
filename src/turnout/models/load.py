"""A folder or a hub id → MoE.

Safetensors only; nothing is downloaded unless a hub id is named; no code of a checkpoint runs unless asked.
"""

import json
import re
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

from turnout.errors import ModelError
from turnout.models.anatomy import MoE, read

_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")


def load(
    path_or_id: str | PathLike[str],
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    adapter: object = None,
    *,
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> MoE:
    """Load a checkpoint folder or, with network, a hub id ("org/name") as a MoE, ready to be audited.

    Args:
        path_or_id: a folder with `config.json` and safetensors weights, or a hub id.
        dtype: a torch dtype or its name ("bfloat16"); None or "auto" is the checkpoint's own.
        device: "cpu" (default), "cuda", "cuda:1", …
        adapter: must be None; this version reads no adapters.
        device_map: passed to accelerate, instead of `device`, for several devices or offloading.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code that the checkpoint brings along.

    Raises:
        ModelError: no such checkpoint, a malformed, incomplete, pickled or dense one, or one that needs its own code.
    """
    if adapter is not None:
        raise ModelError("adapter", expected="None: this version reads no adapters", came=repr(adapter))
    source = str(path_or_id)
    folder = _folder(source)
    if folder is not None:
        _check_folder(folder, trust_remote_code)
    settings = {"revision": revision, "trust_remote_code": trust_remote_code, "local_files_only": folder is not None}
    if revision is None:
        del settings["revision"]
    with _quiet():
        model = _model(source, _dtype(dtype), _devices(device, device_map), settings)
        tokenizer = _tokenizer(source, folder, settings)
    name = folder.resolve().name if folder is not None else source
    return read(model, tokenizer, name, revision or getattr(model.config, "_commit_hash", None))


def as_moe(
    model: MoE | PreTrainedModel | str | PathLike[str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    **loading: Any,
) -> MoE:
    """Whatever stands for a model as a MoE: one already, a live transformers model, or a folder or hub id to `load`.

    Args:
        model: the model.
        tokenizer: of a live model; a MoE brings its own.
        **loading: arguments of `load`, for a folder or hub id only; None counts as not given, and the device "auto"
            spreads the model over all devices.

    Raises:
        ModelError: as `load` and `read`; or arguments of `load` for a model that is loaded already.
    """
    given = {name: value for name, value in loading.items() if value}
    if isinstance(model, str | PathLike):
        if given.get("device") == "auto":
            given["device_map"] = given.pop("device")
        return load(model, **given)
    if given:
        raise ModelError(min(given), expected="none: the model is loaded already", came=given[min(given)])
    return model if isinstance(model, MoE) else read(model, tokenizer)


def _folder(source: str) -> Path | None:
    """The checkpoint's folder; None for a hub id."""
    path = Path(source).expanduser()
    if source and path.is_dir():
        return path
    if source and path.exists():
        raise ModelError(source, expected="a folder with config.json and safetensors weights", came="a file")
    if not _HUB_ID.fullmatch(source):
        raise ModelError(source, expected="a folder, or a hub id such as org/name", came="no such folder")
    return None


def _check_folder(folder: Path, trust_remote_code: bool) -> None:
    """What can be told from a folder without loading it, so that the message names the file."""
    config = _json(folder / "config.json")
    model_type = config.get("model_type")
    if "auto_map" in config and model_type not in CONFIG_MAPPING and not trust_remote_code:
        raise ModelError(
            folder / "config.json",
            expected=f"a model type that transformers knows, not {model_type!r}",
            came="auto_map, Python code of the checkpoint's own",
            do="pass trust_remote_code=True if you trust that code",
        )
    if "auto_map" not in config and model_type not in CONFIG_MAPPING:
        raise ModelError(folder / "config.json", expected="a model_type that transformers knows", came=repr(model_type))
    for shard in _shards(folder):
        _check_shard(shard)


def _shards(folder: Path) -> list[Path]:
    """The weight files of a folder, present or not."""
    if (folder / _INDEX).exists():
        weight_map = _json(folder / _INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelError(folder / _INDEX, expected='a "weight_map" from weight to file', came=repr(weight_map))
        return sorted({folder / str(name) for name in weight_map.values()})
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
    came = f"pickled weights only ({pickles[0]})" if pickles else "no weights"
    convert = "save it again with transformers' save_pretrained, which writes safetensors" if pickles else None
    raise ModelError(folder, expected="model.safetensors", came=came, do=convert)


def _check_shard(shard: Path) -> None:
    """A safetensors file whose header fits its length."""
    if not shard.is_file():
        raise ModelError(shard, expected="the weights that the index names", came="no such file")
    try:
        with safe_open(shard, framework="pt"):
            return
    except (SafetensorError, OSError) as error:
        raise ModelError(
            shard, expected="a whole safetensors file", came=error, do="copy or download it again"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(path.parent, expected=f"a checkpoint with {path.name}", came="none") from error
    except (OSError, ValueError) as error:
        raise ModelError(path, expected="JSON", came=error) from error
    if not isinstance(content, dict):
        raise ModelError(path, expected="a JSON object", came=type(content).__name__)
    return content


def _model(source: str, dtype: torch.dtype | str, devices: dict[str, Any], settings: dict[str, Any]) -> PreTrainedModel:
    """The model, every weight of which came from the checkpoint."""
    settings = {**settings, **devices, "use_safetensors": True, "output_loading_info": True}
    offloaded = tempfile.TemporaryDirectory(prefix="turnout-offload-") if devices else None  # fused weights of "disk"
    if offloaded is not None:
        settings["offload_folder"] = offloaded.name
    try:
        model, report = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **settings)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError, TypeError) as error:
        if offloaded is not None:
            offloaded.cleanup()
        raise ModelError(source, expected="a checkpoint that transformers can load", came=_first_line(error)) from error
    if offloaded is not None:
        weakref.finalize(model, offloaded.cleanup)
    missing = sorted(report["missing_keys"])
    if missing:
        came = f"none for {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        raise ModelError(
            source, expected="every weight in the checkpoint", came=came, do="the checkpoint is incomplete"
        )
    return model


def _tokenizer(source: str, folder: Path | None, settings: dict[str, Any]) -> PreTrainedTokenizerBase | None:
    """The checkpoint's tokenizer; None if a folder has none."""
    if folder is not None and not any((folder / name).exists() for name in _TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(source, **settings)
    except Exception as error:  # tokenizers raises bare Exception for a file it cannot parse
        raise ModelError(f"{source} (tokenizer)", expected="a tokenizer", came=_first_line(error)) from error


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | str:
    """A floating torch dtype, or "auto"."""
    if dtype is None or dtype == "auto":
        return "auto"
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelError("dtype", expected="a floating torch dtype such as bfloat16 or float32", came=dtype)
    return found


def _devices(device: torch.device | str | None, device_map: str | dict[str, Any] | None) -> dict[str, Any]:
    """Where `from_pretrained` is to put the weights."""
    if device_map is not None:
        if device is not None:
            raise ModelError("device", expected="either device or device_map", came="both")
        return {"device_map": device_map}
    if device is None:
        return {}
    try:
        where = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            "device", expected="a device of this machine", came=f"{device} ({_first_line(error)})"
        ) from error
    return {} if where.type == "cpu" else {"device_map": {"": where}}


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars of transformers where nobody looks, and no report of what an error of ours will say."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
