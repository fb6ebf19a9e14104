"""`upcycle`: a dense checkpoint in; a MoE of the same family's kind out, with the loss that it costs, stated."""

import glob
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from turnout.errors import ModelError, RunError
from turnout.models.change.dense import Dense, check_equal, load_dense, new_moe, save, visit
from turnout.models.wrap.anatomy import MoE
from turnout.progress import Progress, silent
from turnout.runs import RunFolder, atomic
from turnout.runs.json_files import read_object, write_json
from turnout.upcycling.config import UpcycleConfig
from turnout.upcycling.layers import CONTROL, FittedLayer, fill_layer, fit_layer
from turnout.upcycling.losses import first_tokens, loss_row, window_losses
from turnout.upcycling.result import FILE, SCHEMA, Upcycled
from turnout.upcycling.text import CalibrationText, read_text

_ALIGNED = 16  # bytes: transformers' fused experts take rows of a multiple of that


def upcycle(
    dense: str | Path,
    out: str | Path,
    text: str | Path | Sequence[str | Path],
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    revision: str | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] | None = None,
    **options: Any,
) -> Upcycled:
    """Write a MoE made of the dense checkpoint `dense` to the new folder `out`; transformers loads it by itself.

    A killed call goes on where it stopped when it is made again: fitted layers and measured losses wait in a hidden
    folder beside `out`, which appears once it is whole.

    >>> made = upcycle("SmolLM2-135M", "SmolLM2-16x", "text.jsonl", method="split", experts=16, top_k=4)
    >>> made.frame()

    Args:
        dense: folder or hub id of a Llama, Mistral, Qwen3, OLMo 2 or Granite checkpoint.
        out: a folder that does not exist or is empty, or holds this very upcycling.
        text: calibration text: .txt, or JSONL or Parquet rows of texts or questions; one file or several.
        dtype: to work in and to save; None is the checkpoint's.
        device: "cpu" (default), "cuda", …
        revision: of a hub id.
        progress: hears how far it is.
        note: hears what a person would want to know.
        **options: fields of `UpcycleConfig`: method, experts, top_k, groups, noise, tokens, held_out, length, seed.

    Raises:
        ModelError: no such checkpoint; a MoE already; a family, bias or attention that no MoE family shares; E that
            does not divide the network's width; `out` holds something else.
        RecipeError: an option that does not fit. TaskError: text that cannot be read, or too little.
        RunError: an unfinished upcycling with other inputs beside `out`, or `out` cannot be written.
    """
    config, out = UpcycleConfig.of(options), Path(out).absolute()
    files = [text] if isinstance(text, str | Path) else list(text)
    _check_out(out)
    model = load_dense(dense, dtype, device, revision=revision)
    width = _width(model, config)
    windows = read_text(files, model.tokenizer, config)
    inputs = _inputs(model, config, windows)
    unfinished = out.with_name(f".{out.name}.upcycling")
    if (out / FILE).exists():
        result = _finished(out, inputs, note)
        shutil.rmtree(unfinished, ignore_errors=True)  # left where a call was killed in between
        return result
    with RunFolder.open(unfinished, inputs) as work:
        for stale in out.parent.glob(f".{glob.escape(out.name)}.tmp-*"):
            shutil.rmtree(stale, ignore_errors=True)
        layers = _layers(work, model, config, windows, progress)
        losses, equality, moe = _losses(work, model, config, windows, layers, width, progress)
        content = {
            "schema": SCHEMA,
            **inputs,
            "family": moe.model.config.model_type,
            "parameters": {"dense": _size(model.without_routers()), "moe": _size(moe)},
            "equality": equality,
            "losses": losses,
            "layers": [{"layer": i, **layer.figures.to_dict()} for i, layer in enumerate(layers)],
        }
        _write(moe, content, out)
        shutil.rmtree(work.path, ignore_errors=True)
    return Upcycled(content, out)


def _check_out(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / FILE).exists())):
        raise ModelError(out, expected="a new or empty folder", received="one that holds something")


def _width(dense: Dense, config: UpcycleConfig) -> int:
    """Of an expert."""
    if config.method == "copy":
        return dense.width
    width, left = divmod(dense.width, config.experts)
    step = _ALIGNED // dense.model.dtype.itemsize
    if not left and not width % step:
        return width
    fit = [e for e in range(2, dense.width + 1) if dense.width % (e * step) == 0]
    near = sorted(sorted(fit, key=lambda e: abs(e - config.experts))[:4])
    expected, received = f"a number of experts that divides the networks' {dense.width} neurons", str(config.experts)
    if not left:
        expected, received = (
            f"experts of a multiple of {step} neurons, for fused products",
            f"{received}, of {width} each",
        )
    raise ModelError(dense.model_id, expected=expected, received=received, do=f"take {', '.join(map(str, near))}")


def _inputs(dense: Dense, config: UpcycleConfig, windows: CalibrationText) -> dict[str, Any]:
    described = dense.without_routers().describe()
    kept = ("id", "revision", "architecture", "dtype", "parameters", "digest")
    sizes = {"fitted_tokens": windows.fitted.numel(), "held_out_tokens": windows.held_out.numel()}
    return {
        "verb": "upcycle",
        "model": {name: described[name] for name in kept},
        "config": config.to_dict(),
        "text": {"files": list(windows.files), **sizes, "held_out_windows": len(windows.held_out)},
    }


def _finished(out: Path, inputs: Mapping[str, Any], note: Callable[[str], None] | None) -> Upcycled:
    """The result in `out`, if it is what is asked for."""
    stored = read_object(out / FILE, "an upcycled checkpoint")
    for name, value in inputs.items():
        if stored.get(name) != value:
            received = f"one of another {name}"
            raise RunError(
                out, expected="a new or empty folder, or this upcycling", received=received, do="choose another"
            )
    if note is not None:
        note(f"{out} holds this upcycling already: nothing to do")
    return Upcycled.load(out)


def _layers(
    work: RunFolder, dense: Dense, config: UpcycleConfig, windows: CalibrationText, progress: Progress
) -> list[FittedLayer]:
    """Every layer fitted, from disk where a killed call left it."""
    names = [f"layer-{number:03d}.safetensors" for number in range(len(dense.networks))]
    found = {name: work.read_arrays(name) for name in names}

    def fit(number: int, x_TH: Tensor) -> None:
        if found[names[number]] is None:
            fitted = fit_layer(dense, number, x_TH, windows.fitted.numel(), config)
            found[names[number]] = fitted.arrays()
            work.write_arrays(names[number], fitted.arrays())
        progress("layers", number + 1, len(names), "layers")

    if None in found.values():
        visit(dense, torch.cat([windows.fitted, windows.held_out]), fit)
    return [FittedLayer.of(arrays) for arrays in found.values() if arrays is not None]


def _losses(
    work: RunFolder,
    dense: Dense,
    config: UpcycleConfig,
    windows: CalibrationText,
    layers: Sequence[FittedLayer],
    width: int,
    progress: Progress,
) -> tuple[list[dict[str, object]], float, MoE]:
    """The rows of the table of losses, how equal the MoE is with every expert chosen, and the MoE, fitted."""
    moe = new_moe(dense, config.experts, config.top_k, width)
    _fill(moe, dense, replace(config, noise=0.0), layers, "before fitting")
    weight = 1 / (config.top_k if config.method == "split" else config.experts)
    equality = check_equal(dense, moe, first_tokens(windows.held_out), weight)
    found: dict[str, list[float]] = {}
    for name in _variants(config):
        file = f"losses-{name.replace(' ', '-')}.json"
        if not (work.path / file).exists():
            if name != "dense":
                _fill(moe, dense, config, layers, name)
            model = dense.without_routers() if name == "dense" else moe
            work.write_json(file, {"losses": _measured(model, windows.held_out, name, progress)})
        found[name] = [float(x) for x in work.read_json(file)["losses"]]  # type: ignore[attr-defined]  # a list: above
    _fill(moe, dense, config, layers, "fitted")
    return [loss_row(name, losses, found["dense"], config.seed) for name, losses in found.items()], equality, moe


def _variants(config: UpcycleConfig) -> tuple[str, ...]:
    """The models that are measured; with all experts chosen there is nothing that fitting or grouping could change."""
    if config.method == "copy":
        return ("dense", "before fitting", "fitted")
    return ("dense", "fitted") if config.top_k == config.experts else ("dense", "before fitting", "fitted", CONTROL)


def _measured(model: MoE, windows: Tensor, name: str, progress: Progress) -> list[float]:
    return window_losses(model, windows, lambda done: progress(f"loss, {name}", done, len(windows), "windows"))


def _fill(moe: MoE, dense: Dense, config: UpcycleConfig, layers: Sequence[FittedLayer], name: str) -> None:
    for layer, network, fitted in zip(moe.layers, dense.networks, layers, strict=True):
        router = {"before fitting": fitted.before, CONTROL: fitted.control}.get(name, fitted.router)
        assert router is not None, name
        fill_layer(layer, network, config, router, fitted.control_groups if name == CONTROL else fitted.groups)


def _size(moe: MoE) -> int:
    return sum(p.numel() for p in moe.model.parameters())


def _write(moe: MoE, content: Mapping[str, Any], out: Path) -> None:
    made = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        atomic.make_folder(made)
        save(moe, made)
        write_json(made / FILE, content)
        made.replace(out)
        atomic.sync_folder(out.parent)
    except OSError as error:
        raise atomic.write_error(out, error) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
