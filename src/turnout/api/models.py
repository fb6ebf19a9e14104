"""From what a user gives for a model to a loaded one: a MoE, a live model, a folder, a hub id, or None."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout import embedded
from turnout.errors import ModelError
from turnout.listener import Listener
from turnout.runs import RunFolder
from turnout.runs.manifest import MANIFEST, check_file

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from turnout.models.wrap.anatomy import MoE


def path_of(model: "str | PathLike[str] | None") -> "str | PathLike[str]":
    """The checkpoint that is meant; None and "embedded" are the embedded model."""
    return embedded.model_path() if model is None or model == "embedded" else model


def resolve_moe(
    model: "MoE | PreTrainedModel | str | PathLike[str] | None",
    tokenizer: "PreTrainedTokenizerBase | None",
    listener: Listener,
    *,
    adapter: "str | PathLike[str] | None" = None,
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = "auto",
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> "MoE":
    """The MoE that `model` stands for, loaded if need be; the listener is informed of the device.

    Args:
        model: a MoE, a live transformers model, a checkpoint folder, a hub id, or None for the embedded model.
        tokenizer: of a live model.
        listener: receives the device that was chosen.
        adapter: trained routers to load into a checkpoint.
        dtype: of the weights; None is the checkpoint's own.
        device: "auto": CUDA if there is one, then MPS, else CPU; or a torch device.
        device_map: passed to accelerate instead of `device`, for several devices or offloading.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code of the checkpoint.

    Raises:
        ModelError: the checkpoint cannot be loaded or is no MoE, or loading options for a model that is loaded already.
    """
    from turnout.models.wrap.devices import device_of
    from turnout.models.wrap.load import as_moe

    is_path = model is None or isinstance(model, str | PathLike)
    if adapter is not None:
        check_run_files(adapter)
    moe = as_moe(
        path_of(model) if is_path else model,  # type: ignore[arg-type]  # narrowed by is_path
        tokenizer,
        adapter=adapter,
        dtype=dtype,
        device=device,
        device_map=device_map,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    if is_path:
        listener.info(f"device: {device_of(moe)}, {str(moe.model.dtype).removeprefix('torch.')}")
        _pass_on(moe.notes, moe.model_id, listener)
    return moe


def check_run_files(folder: "str | PathLike[str]") -> None:
    """Compare every file of a complete run with its digest, before one of them is used; other folders pass.

    Raises:
        RunError: a file that is missing or damaged.
    """
    path = Path(folder)
    if (path / MANIFEST).exists():
        run = RunFolder.read(path)
        for name in run.files:
            check_file(path, name, run.files)


def resolve_causal(
    model: "str | PathLike[str] | None",
    listener: Listener,
    *,
    adapter: "str | PathLike[str] | None" = None,
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any]]":
    """A causal language model, dense or MoE, its tokenizer, and its description for a run's inputs.

    Args:
        model: a checkpoint folder, a hub id, or None for the embedded model.
        listener: receives the device that was chosen.
        adapter: trained routers to load into a MoE.
        dtype: of the weights; None is the checkpoint's own.
        device: as in `resolve_moe`.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code of the checkpoint.

    Raises:
        ModelError: the checkpoint cannot be loaded, or has no tokenizer.
    """
    from turnout.models.wrap.anatomy import weights_digest
    from turnout.models.wrap.devices import device_of
    from turnout.models.wrap.load import load, load_checkpoint

    hub: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    if adapter is None:
        loaded = load_checkpoint(path_of(model), dtype, device, **hub)
        live, tokenizer, name, revision, notes = (
            loaded.model,
            loaded.tokenizer,
            loaded.name,
            loaded.revision,
            loaded.notes,
        )
    else:
        moe = load(path_of(model), dtype, device, adapter, **hub)
        live, tokenizer, name, revision, notes = moe.model, moe.tokenizer, moe.model_id, moe.revision, moe.notes
    if tokenizer is None:
        raise ModelError(name, expected="a tokenizer beside the model", received="none")
    listener.info(f"device: {device_of(live)}, {str(live.dtype).removeprefix('torch.')}")
    _pass_on(notes, name, listener)
    described = {"id": name, "revision": revision, "dtype": str(live.dtype), "digest": weights_digest(live)}
    return live, tokenizer, described


def _pass_on(notes: tuple[str, ...], name: str, listener: Listener) -> None:
    """Tell the listener what a reader of the result should know of a checkpoint."""
    for note in notes:
        listener.note(f"{name}: {note}")
