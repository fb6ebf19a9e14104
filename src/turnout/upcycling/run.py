"""An upcycling's work: fit every layer, measure the losses, save the checkpoint. Finished parts survive a kill."""

import glob
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from turnout.errors import ModelError
from turnout.listener import Listener
from turnout.models.change.dense import Dense, check_equal, new_moe, save, visit
from turnout.models.wrap.anatomy import MoE
from turnout.runs import RunFolder, atomic
from turnout.runs.json_files import write_json
from turnout.upcycling.config import UpcycleConfig
from turnout.upcycling.layers import CONTROL, FittedLayer, fill_layer, fit_layer
from turnout.upcycling.losses import first_tokens, loss_row, measured_models, window_losses
from turnout.upcycling.result import SCHEMA, UPCYCLE_FILE
from turnout.upcycling.text import CalibrationText

KEEP = ("layer-*", "losses-*")
"""Files of an unfinished upcycling that are worth resuming from."""
_ALIGNED = 16  # bytes: transformers' fused experts take rows of a multiple of that


def run(
    dense: Dense,
    text: CalibrationText,
    config: UpcycleConfig,
    folder: RunFolder,
    listener: Listener,
    *,
    out: Path,
    inputs: Mapping[str, Any],
) -> None:
    """Make a MoE from `dense` and save it in the new folder `out`; `folder` is removed at the end.

    Args:
        dense: the dense model.
        text: windows of calibration text.
        config: how experts are made.
        folder: the open work folder; fitted layers and measured losses that it contains are used.
        listener: receives progress.
        out: a folder that does not exist or is empty; it appears when it is complete.
        inputs: what identifies the upcycling, for upcycle.json.

    Raises:
        ModelError: a number of experts that does not fit, or a family whose MoE computes something else.
        RunError: `out` cannot be written.
    """
    for stale in out.parent.glob(f".{glob.escape(out.name)}.tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    moe = new_moe(dense, config.experts, config.top_k, expert_width(dense, config))
    layers = _fit(folder, dense, config, text, listener)
    _fill(moe, dense, config.replace(noise=0.0), layers, "before fitting")
    weight = 1 / (config.top_k if config.method == "split" else config.experts)
    equality = check_equal(dense, moe, first_tokens(text.held_out), weight)

    losses = _losses(folder, moe, dense, config, layers, text.held_out, listener)
    _fill(moe, dense, config, layers, "fitted")
    content = {
        "schema": SCHEMA,
        **inputs,
        "family": moe.model.config.model_type,
        "parameters": {"dense": _size(dense.without_routers()), "moe": _size(moe)},
        "equality": equality,
        "losses": losses,
        "layers": [{"layer": i, **layer.figures.to_dict()} for i, layer in enumerate(layers)],
    }
    _write(moe, content, out)
    shutil.rmtree(folder.path, ignore_errors=True)


def expert_width(dense: Dense, config: UpcycleConfig) -> int:
    """Number of neurons of an expert.

    Raises:
        ModelError: a number of experts that does not divide the network's width into aligned parts.
    """
    if config.method == "copy":
        return dense.width
    width, rest = divmod(dense.width, config.experts)
    step = _ALIGNED // dense.model.dtype.itemsize
    if not rest and not width % step:
        return width
    fitting = [e for e in range(2, dense.width + 1) if dense.width % (e * step) == 0]
    near = sorted(sorted(fitting, key=lambda e: abs(e - config.experts))[:4])
    expected, received = f"a number of experts that divides the networks' {dense.width} neurons", str(config.experts)
    if not rest:
        expected = f"experts of a multiple of {step} neurons, for fused products"
        received = f"{received}, of {width} each"
    raise ModelError(dense.model_id, expected=expected, received=received, do=f"take {', '.join(map(str, near))}")


def _fit(
    folder: RunFolder, dense: Dense, config: UpcycleConfig, text: CalibrationText, listener: Listener
) -> list[FittedLayer]:
    """Fit every layer; those that `folder` contains are read."""
    names = [f"layer-{number:03d}.safetensors" for number in range(len(dense.networks))]
    stored = {name: folder.read_arrays(name) for name in names}

    def fit(number: int, x_TH: Tensor) -> None:
        if stored[names[number]] is None:
            arrays = fit_layer(dense, number, x_TH, text.fitted.numel(), config).arrays()
            folder.write_arrays(names[number], arrays)
            stored[names[number]] = arrays
        listener.progress("layers", number + 1, len(names), "layers")

    if None in stored.values():
        visit(dense, torch.cat([text.fitted, text.held_out]), fit)
    return [FittedLayer.of(arrays) for arrays in stored.values() if arrays is not None]


def _losses(
    folder: RunFolder,
    moe: MoE,
    dense: Dense,
    config: UpcycleConfig,
    layers: Sequence[FittedLayer],
    windows_NT: Tensor,
    listener: Listener,
) -> list[dict[str, object]]:
    """Rows of the table of losses, one a model; losses that `folder` contains are read."""
    losses: dict[str, list[float]] = {}
    for name in measured_models(config):
        file = f"losses-{name.replace(' ', '-')}.json"
        if not (folder.path / file).exists():
            if name != "dense":
                _fill(moe, dense, config, layers, name)
            model = dense.without_routers() if name == "dense" else moe
            folder.write_json(file, {"losses": window_losses(model, windows_NT, name, listener)})
        losses[name] = [float(x) for x in folder.read_json(file)["losses"]]  # type: ignore[attr-defined]  # a list
    return [loss_row(name, values, losses["dense"], config.seed) for name, values in losses.items()]


def _fill(moe: MoE, dense: Dense, config: UpcycleConfig, layers: Sequence[FittedLayer], name: str) -> None:
    """Set experts and routers of the measured model `name`."""
    for layer, network, fitted in zip(moe.layers, dense.networks, layers, strict=True):
        router = {"before fitting": fitted.before, CONTROL: fitted.control}.get(name, fitted.router)
        assert router is not None, name
        fill_layer(layer, network, config, router, fitted.control_groups if name == CONTROL else fitted.groups)


def _size(moe: MoE) -> int:
    return sum(p.numel() for p in moe.model.parameters())


def _write(moe: MoE, content: Mapping[str, Any], out: Path) -> None:
    unfinished = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        atomic.make_folder(unfinished)
        save(moe, unfinished)
        write_json(unfinished / UPCYCLE_FILE, content)
        unfinished.replace(out)
        atomic.sync_folder(out.parent)
    except OSError as error:
        raise atomic.write_error(out, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
