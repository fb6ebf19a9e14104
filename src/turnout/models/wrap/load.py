"""Load a checkpoint folder or hub id as a MoE or as any causal language model.

Safetensors only; nothing is downloaded unless a hub id is given; code in a checkpoint runs only with trust_remote_code.
"""

import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from turnout.errors import ModelError
from turnout.models.change.adapter import RouterAdapter
from turnout.models.checkpoint.contents import Contents, read_contents
from turnout.models.checkpoint.files import checkpoint_folder
from turnout.models.checkpoint.hub import fetch, fetch_weights
from turnout.models.wrap.anatomy import MoE, read
from turnout.models.wrap.dequantized import load_dequantized
from turnout.models.wrap.devices import AUTO, Device, placement
from turnout.models.wrap.families import register_own
from turnout.models.wrap.load_report import check_report, load_error, restore_precision

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")


def load(
    path_or_id: str | PathLike[str],
    dtype: torch.dtype | str | None = None,
    device: Device = AUTO,
    adapter: str | PathLike[str] | None = None,
    *,
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> MoE:
    """Load a checkpoint folder or, with network, a hub id ("org/name") as a MoE.

    Args:
        path_or_id: a folder with `config.json` and safetensors weights, or a hub id.
        dtype: a torch dtype or its name ("bfloat16"); None or "auto" is the checkpoint's own.
        device: "auto" (CUDA if there is one, then MPS, else the CPU; several CUDA devices share the layers), "cpu",
            "cuda:1", …; None means "auto". `devices.device_of` names where the weights are.
        adapter: a folder with a router adapter to apply, such as a run of `turnout align`.
        device_map: passed to accelerate, instead of `device`, for several devices or offloading.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run the checkpoint's own Python code.

    Raises:
        ModelError: no such checkpoint; a malformed, incomplete, pickled or dense one, or one that needs its own code;
            no such adapter, or an adapter of another base.
    """
    if adapter is not None:
        where = {"device": device, "device_map": device_map}
        return _adapted(path_or_id, dtype, adapter, revision=revision, trust_remote_code=trust_remote_code, **where)
    loaded = load_checkpoint(
        path_or_id, dtype, device, device_map=device_map, revision=revision, trust_remote_code=trust_remote_code
    )
    moe = read(loaded.model, loaded.tokenizer, loaded.name, loaded.revision)
    return replace(moe, notes=loaded.notes)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A causal language model from a checkpoint.

    Attributes:
        model: the model, in evaluation mode.
        tokenizer: None if the checkpoint has none.
        name: the folder's name or the hub id.
        revision: of a hub id.
        notes: what a reader of a result should know: unread files, unused tensors, dequantized or narrowed weights.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    name: str
    revision: str | None
    notes: tuple[str, ...]


def load_causal(
    path_or_id: str | PathLike[str],
    dtype: torch.dtype | str | None = None,
    device: Device = AUTO,
    *,
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None, str, str | None]:
    """Load any causal language model, dense or MoE, with the arguments of `load`.

    Returns:
        Model, tokenizer (None if the folder has none), name and revision.

    Raises:
        ModelError: as `load`, except for a dense checkpoint.
    """
    loaded = load_checkpoint(
        path_or_id, dtype, device, device_map=device_map, revision=revision, trust_remote_code=trust_remote_code
    )
    return loaded.model, loaded.tokenizer, loaded.name, loaded.revision


def load_checkpoint(
    path_or_id: str | PathLike[str],
    dtype: torch.dtype | str | None = None,
    device: Device = AUTO,
    *,
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Loaded:
    """`load_causal` with notes on what was stored and how it is used."""
    source = str(path_or_id)
    folder = checkpoint_folder(source)
    contents = _contents(source, folder, revision, trust_remote_code)
    settings = {"revision": revision, "trust_remote_code": trust_remote_code, "local_files_only": folder is not None}
    if revision is None:
        del settings["revision"]
    checked = _dtype(dtype)
    with quiet():
        model, report = _model(source, contents, checked, placement(device, device_map), settings)
        tokenizer = _tokenizer(source, folder, settings)
    notes = check_report(model, report, contents, source)
    if contents is not None:
        narrowed = restore_precision(model, contents)
        notes += narrowed if checked == "auto" else ()
    name = folder.resolve().name if folder is not None else source
    return Loaded(model, tokenizer, name, revision or getattr(model.config, "_commit_hash", None), notes)


def _contents(source: str, folder: Path | None, revision: str | None, trust_remote_code: bool) -> Contents | None:
    """The contents of a folder or of a hub id's files; None for a hub id without safetensors files."""
    if folder is not None:
        return read_contents(folder, trust_remote_code)
    register_own()
    files = fetch_weights(source, revision)
    if not files:
        return None
    return read_contents(fetch(source, "config.json", revision).parent, trust_remote_code)


def _adapted(
    path_or_id: str | PathLike[str],
    dtype: torch.dtype | str | None,
    folder: str | PathLike[str],
    **settings: Any,
) -> MoE:
    """Load the base and apply an adapter, after checking that it was trained on this base.

    A digest holds for one dtype: if the requested dtype is not the adapter's, the base is loaded in both.
    """
    adapter = RouterAdapter.read(folder)
    moe = load(path_or_id, dtype, **settings)
    adapter.check(moe if moe.model.dtype == adapter.dtype else load(path_or_id, adapter.dtype, **settings))
    adapter.apply(moe)
    return moe


def as_moe(
    model: MoE | PreTrainedModel | str | PathLike[str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    dtype: torch.dtype | str | None = None,
    device: Device = AUTO,
    adapter: str | PathLike[str] | None = None,
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool | None = None,
) -> MoE:
    """A model in any form as a MoE: a MoE, a live transformers model, or a folder or hub id to `load`.

    Args:
        model: the model.
        tokenizer: the tokenizer of a live model; a MoE has its own.
        dtype: as in `load`; this and all that follow are for a folder or hub id only.
        device: as in `load`.
        adapter: as in `load`.
        device_map: as in `load`.
        revision: as in `load`.
        trust_remote_code: as in `load`; None means False.

    Raises:
        ModelError: as `load` and `read`; or arguments of `load` for a model that is loaded already.
    """
    if isinstance(model, str | PathLike):
        return load(
            model,
            dtype,
            device,
            adapter,
            device_map=device_map,
            revision=revision,
            trust_remote_code=bool(trust_remote_code),
        )
    if not isinstance(model, MoE | PreTrainedModel):
        expected = "a checkpoint's folder, a hub id, a MoE or a transformers model"
        raise ModelError("model", expected=expected, received=repr(model))
    place = None if str(device) == AUTO else device
    options: dict[str, object] = {"dtype": dtype, "device": place, "adapter": adapter, "device_map": device_map}
    options |= {"revision": revision, "trust_remote_code": trust_remote_code}
    given = {name: value for name, value in options.items() if value}
    if given:
        raise ModelError(min(given), expected="none: the model is loaded already", received=given[min(given)])
    return model if isinstance(model, MoE) else read(model, tokenizer)


def _model(
    source: str, contents: Contents | None, dtype: torch.dtype | str, devices: dict[str, Any], settings: dict[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model and transformers' loading report."""
    offloaded = (
        tempfile.TemporaryDirectory(prefix="turnout-offload-") if devices else None
    )  # for fused weights on "disk"
    if offloaded is not None:
        devices = {**devices, "offload_folder": offloaded.name}
    try:
        if contents is not None and contents.quantized:
            model, report = load_dequantized(contents, source, dtype, devices, settings["trust_remote_code"])
        else:
            options = {**settings, **devices, "use_safetensors": True, "output_loading_info": True}
            model, report = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **options)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError, TypeError) as error:
        if offloaded is not None:
            offloaded.cleanup()
        raise load_error(source, error) from error
    if offloaded is not None:
        weakref.finalize(model, offloaded.cleanup)
    return model, report


def _tokenizer(source: str, folder: Path | None, settings: dict[str, Any]) -> PreTrainedTokenizerBase | None:
    """The checkpoint's tokenizer; None if the folder has none."""
    if folder is not None and not any((folder / name).exists() for name in _TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(source, **settings)
    except Exception as error:  # tokenizers raises a bare Exception for a file that it cannot parse
        raise ModelError(
            f"{source} (tokenizer)", expected="a tokenizer", received=str(error) or type(error).__name__
        ) from error


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | str:
    """A floating torch dtype, or "auto"."""
    if dtype is None or dtype == "auto":
        return "auto"
    result = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(result, torch.dtype) or not result.is_floating_point:
        raise ModelError("dtype", expected="a floating torch dtype such as bfloat16 or float32", received=dtype)
    return result


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' loading report, and its progress bars where stderr is not a terminal."""
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
