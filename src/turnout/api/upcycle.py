"""`turnout.upcycle`: a MoE checkpoint from a dense one, by splitting or copying its feed-forward networks."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.api.deprecated import former_names
from turnout.errors import ModelError, RunError
from turnout.listener import Listener
from turnout.runs.json_files import read_object
from turnout.runs.opening import open_run
from turnout.upcycling.config import Groups, Method, UpcycleConfig

if TYPE_CHECKING:
    import torch

    from turnout.models.change.dense import Dense
    from turnout.upcycling.result import Upcycled
    from turnout.upcycling.text import CalibrationText


@former_names()
def upcycle(
    dense: str | Path,
    out: str | Path,
    text: str | Path | Sequence[str | Path],
    *,
    method: Method = "split",
    experts: int = 8,
    top_k: int = 2,
    groups: Groups = "coactivation",
    noise: float = 0.0,
    tokens: int = 8192,
    held_out: int = 4096,
    length: int = 256,
    seed: int = 0,
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = "auto",
    revision: str | None = None,
    listener: Listener | None = None,
) -> "Upcycled":
    """Write a MoE made from a dense checkpoint to the new folder `out`; transformers loads it by itself.

    Splitting distributes each network's neurons among the experts (MoEfication, arXiv 2110.01786); copying gives every
    expert the whole network (sparse upcycling, arXiv 2212.05055). A call that was killed resumes: fitted layers and
    measured losses are stored in a hidden folder beside `out`, which appears when it is complete.

    >>> upcycled = turnout.upcycle("SmolLM2-135M", "SmolLM2-16x", "text.jsonl", method="split", experts=16, top_k=4)
    >>> upcycled.frame()

    Args:
        dense: folder or hub id of a Llama, Mistral, Qwen3, OLMo 2 or Granite checkpoint.
        out: a folder that does not exist or is empty, or that contains this upcycling.
        text: calibration text: .txt, or JSONL or Parquet rows of texts or questions; one file or several.
        method: "split" or "copy".
        experts: experts of a layer.
        top_k: experts chosen per token.
        groups: neurons of one expert of a split: "coactivation" (active on the same tokens), "weights" (similar gate
            vectors) or "random".
        noise: of a copy: standard deviation of the noise on each expert's weights, as a share of the matrix's own.
        tokens: most tokens of text to which groups and routers are fitted.
        held_out: most tokens of other text on which losses are measured.
        length: tokens of a window of text.
        seed: of the order of the text, the groups, the routers and the noise.
        dtype: of the computation and of the saved weights; None is the checkpoint's own.
        device: "auto" (CUDA if there is one, then MPS, else CPU), or a torch device.
        revision: branch, tag or commit of a hub id.
        listener: receives progress and notes.

    Returns:
        The result in `out`: `.losses`, `.frame()`, `.layers()`, `.path`, `.to_dict()`.

    Raises:
        ModelError: no such checkpoint; a MoE already; a family, bias or attention that no MoE family shares; a number
            of experts that does not divide the network's width; `out` contains something else.
        RecipeError: a setting that does not fit.
        TaskError: text that cannot be read, or too little.
        RunError: an unfinished upcycling with other inputs beside `out`, or `out` cannot be written.
    """
    from turnout.models.change.dense import load_dense
    from turnout.models.wrap.devices import device_of
    from turnout.upcycling.result import Upcycled
    from turnout.upcycling.run import KEEP
    from turnout.upcycling.run import run as run_upcycle
    from turnout.upcycling.text import read_text

    listener, out = listener or Listener(), Path(out).absolute()
    config = UpcycleConfig(
        method=method,
        experts=experts,
        top_k=top_k,
        groups=groups,
        noise=noise,
        tokens=tokens,
        held_out=held_out,
        length=length,
        seed=seed,
    )
    finished = (out / Upcycled.FILE).exists()
    if not finished and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(out, expected="a new or empty folder", received="one that contains files")
    model = load_dense(dense, dtype, device, revision=revision)
    listener.info(f"device: {device_of(model.model)}, {str(model.model.dtype).removeprefix('torch.')}")
    windows = read_text([text] if isinstance(text, str | Path) else list(text), model.tokenizer, config)
    inputs = _inputs(model, config, windows)
    unfinished = out.with_name(f".{out.name}.upcycling")
    if finished:
        _check_inputs(out, inputs)
        listener.note(f"{out} contains this upcycling already: nothing to do")
        shutil.rmtree(unfinished, ignore_errors=True)  # remains of a call that was killed at the very end
    else:
        with open_run(unfinished, inputs, listener, keep=KEEP) as folder:
            run_upcycle(model, windows, config, folder, listener, out=out, inputs=inputs)
    return Upcycled.load(out, already_complete=finished)


def _inputs(model: "Dense", config: UpcycleConfig, windows: "CalibrationText") -> dict[str, Any]:
    """What identifies an upcycling, as upcycle.json contains it."""
    described = model.without_routers().describe()
    kept = ("id", "revision", "architecture", "dtype", "parameters", "digest")
    sizes = {"fitted_tokens": windows.fitted.numel(), "held_out_tokens": windows.held_out.numel()}
    return {
        "verb": "upcycle",
        "model": {name: described[name] for name in kept},
        "config": config.describe(),
        "text": {"files": list(windows.files), **sizes, "held_out_windows": len(windows.held_out)},
    }


def _check_inputs(out: Path, inputs: Mapping[str, Any]) -> None:
    """Raise RunError unless the checkpoint in `out` was made from `inputs`."""
    stored = read_object(out / "upcycle.json", "an upcycled checkpoint")
    for name, value in inputs.items():
        if stored.get(name) != value:
            expected = "a new or empty folder, or this upcycling"
            raise RunError(out, expected=expected, received=f"one of another {name}", do="choose another")
