"""A folder or a hub id → MoE.

Safetensors only; nothing is downloaded unless a hub id is named; no code of a checkpoint runs unless asked.
"""

import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from turnout.errors import ModelError
from turnout.models.change.adapter import RouterAdapter
from turnout.models.checkpoint.files import check_folder, checkpoint_folder
from turnout.models.wrap.anatomy import MoE, read
from turnout.models.wrap.families import register_own

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")


def load(
    path_or_id: str | PathLike[str],
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    adapter: str | PathLike[str] | None = None,
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
        adapter: a folder with a router adapter, such as the run of `turnout align`, to put into the model.
        device_map: passed to accelerate, instead of `device`, for several devices or offloading.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code that the checkpoint brings along.

    Raises:
        ModelError: no such checkpoint, a malformed, incomplete, pickled or dense one, or one that needs its own code;
            no such adapter, or one of another base.
    """
    if adapter is not None:
        where = {"device": device, "device_map": device_map}
        return _adapted(path_or_id, dtype, adapter, revision=revision, trust_remote_code=trust_remote_code, **where)
    loaded = load_causal(
        path_or_id, dtype, device, device_map=device_map, revision=revision, trust_remote_code=trust_remote_code
    )
    return read(*loaded)


def load_causal(
    path_or_id: str | PathLike[str],
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    *,
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None, str, str | None]:
    """Load any causal language model, dense or MoE, as `load` does: model, tokenizer, name and revision.

    Raises:
        ModelError: as `load`, but for a dense checkpoint.
    """
    source = str(path_or_id)
    folder = checkpoint_folder(source)
    if folder is not None:
        check_folder(folder, trust_remote_code)
    else:
        register_own()
    settings = {"revision": revision, "trust_remote_code": trust_remote_code, "local_files_only": folder is not None}
    if revision is None:
        del settings["revision"]
    with quiet():
        model = _model(source, _dtype(dtype), _devices(device, device_map), settings)
        tokenizer = _tokenizer(source, folder, settings)
    name = folder.resolve().name if folder is not None else source
    return model, tokenizer, name, revision or getattr(model.config, "_commit_hash", None)


def _adapted(
    path_or_id: str | PathLike[str],
    dtype: torch.dtype | str | None,
    folder: str | PathLike[str],
    **settings: Any,
) -> MoE:
    """The base with an adapter's routers in it, if it is the base that the adapter was trained on.

    Digests are of one dtype: a base that is wanted in another than the adapter's is loaded in both, to be compared.
    """
    adapter = RouterAdapter.read(folder)
    moe = load(path_or_id, dtype, **settings)
    adapter.check(moe if moe.model.dtype == adapter.dtype else load(path_or_id, adapter.dtype, **settings))
    adapter.apply(moe)
    return moe


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
    if not isinstance(model, MoE | PreTrainedModel):
        expected = "a checkpoint's folder, a hub id, a MoE or a transformers model"
        raise ModelError("model", expected=expected, received=repr(model))
    if given:
        raise ModelError(min(given), expected="none: the model is loaded already", received=given[min(given)])
    return model if isinstance(model, MoE) else read(model, tokenizer)


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
        raise ModelError(
            source, expected="a checkpoint that transformers can load", received=_first_line(error)
        ) from error
    if offloaded is not None:
        weakref.finalize(model, offloaded.cleanup)
    missing = sorted(report["missing_keys"])
    if missing:
        received = f"none for {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        raise ModelError(
            source, expected="every weight in the checkpoint", received=received, do="the checkpoint is incomplete"
        )
    return model


def _tokenizer(source: str, folder: Path | None, settings: dict[str, Any]) -> PreTrainedTokenizerBase | None:
    """The checkpoint's tokenizer; None if a folder has none."""
    if folder is not None and not any((folder / name).exists() for name in _TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(source, **settings)
    except Exception as error:  # tokenizers raises bare Exception for a file it cannot parse
        raise ModelError(f"{source} (tokenizer)", expected="a tokenizer", received=_first_line(error)) from error


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | str:
    """A floating torch dtype, or "auto"."""
    if dtype is None or dtype == "auto":
        return "auto"
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelError("dtype", expected="a floating torch dtype such as bfloat16 or float32", received=dtype)
    return found


def _devices(device: torch.device | str | None, device_map: str | dict[str, Any] | None) -> dict[str, Any]:
    """Where `from_pretrained` is to put the weights."""
    if device_map is not None:
        if device is not None:
            raise ModelError("device", expected="either device or device_map", received="both")
        return {"device_map": device_map}
    if device is None:
        return {}
    try:
        where = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            "device", expected="a device of this machine", received=f"{device} ({_first_line(error)})"
        ) from error
    return {} if where.type == "cpu" else {"device_map": {"": where}}


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
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
