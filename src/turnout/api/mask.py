"""`turnout.mask`: what an audit's committees contribute to the answers, against matched controls."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from turnout import embedded
from turnout.api.deprecated import former_names
from turnout.api.models import resolve_moe
from turnout.errors import ModelError, RunError
from turnout.listener import Listener
from turnout.masking.config import MaskConfig, Which
from turnout.runs.opening import open_run

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from turnout.masking.result import Masking
    from turnout.masking.source import AuditSource
    from turnout.models.wrap.anatomy import MoE


@former_names(renormalise="renormalize")
def mask(
    run: str | Path,
    model: "MoE | PreTrainedModel | str | Path | None" = None,
    out: str | Path | None = None,
    *,
    layers: Literal["all", "each"] | str | Sequence[int] = "all",
    which: Which = "committee",
    controls: int = 99,
    renormalize: bool = False,
    generate: int = 0,
    limit: int | None = None,
    seed: int = 0,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    adapter: str | Path | None = None,
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = "auto",
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    listener: Listener | None = None,
) -> "Masking":
    """Mask an audit's committees, ask its questions again, and compare the drop with controls.

    With `out`, the audit's page is drawn again with the result. The model is left as it was. A run that was killed
    resumes; a complete one is read, not computed again.

    >>> result = turnout.mask("run", "path/to/checkpoint", "run-mask", layers="each")
    >>> result.frame()

    Args:
        run: the folder of a complete audit with its own trace.
        model: the audited model: a folder or hub id, a MoE, or a live transformers model (with `tokenizer=`). None:
            the id in the run's manifest, or the embedded model if that was audited.
        out: the masking run's folder; None: a temporary one, and the audit's page stays as it is.
        layers: "all" at once; "each" alone, then all at once; or numbers, as a sequence or "3,5", each alone.
        which: the set that controls are drawn for: "committee", or "core", all candidates.
        controls: random sets of equal size.
        renormalize: score all experts, then zero the masked ones and rescale.
        generate: also generate up to this many tokens as an answer.
        limit: at most this many questions of each subject.
        seed: of the controls and resamples.
        tokenizer: of a live model.
        adapter: trained routers that were audited with the checkpoint.
        dtype: of the weights; None: as they were audited.
        device: "auto" (CUDA if there is one, then MPS, else CPU), or a torch device.
        device_map: passed to accelerate instead of `device`.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code of the checkpoint.
        listener: receives progress, the cost, and other notes.

    Returns:
        `.frame()` (a row a layer, set and measure), `.targets`, `.baseline`, `.to_dict()`.

    Raises:
        RunError: no complete audit with a trace, or `out` contains something else.
        ModelError: the model cannot be loaded, its weights are not those that were audited, or a set cannot be masked
            in any layer.
        RecipeError: a setting that does not fit.
    """
    from turnout.masking.result import Masking
    from turnout.masking.run import KEEP, masked_targets
    from turnout.masking.run import run as run_masking
    from turnout.masking.source import AuditSource

    listener = listener or Listener()
    config = MaskConfig(
        layers=layers,  # type: ignore[arg-type]  # validated: a list or "3,5" becomes a tuple
        which=which,
        controls=controls,
        renormalize=renormalize,
        generate=generate,
        limit=limit,
        seed=seed,
    )
    source = AuditSource.open(run, config.limit)
    if model is None:
        model, revision = _audited_id(source), revision or source.model.get("revision")
    if isinstance(model, str | Path) and dtype is None:
        dtype = source.model.get("dtype")
    moe = resolve_moe(
        model,
        tokenizer,
        listener,
        adapter=adapter,
        dtype=dtype,
        device=device,
        device_map=device_map,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    _check_audited(source, moe)
    chosen = masked_targets(source, config, moe)
    inputs = {
        "verb": "mask",
        "audit": source.identity,
        "model": source.model["digest"],
        "config": config.describe(),
    }
    with open_run(out, inputs, listener, keep=KEEP) as folder:
        if not folder.complete:
            run_masking(moe, source, chosen, config, folder, listener)
    if out is not None:
        _draw_on_audit(Path(run), Path(out), listener)
    return folder.load(Masking)


def _audited_id(source: "AuditSource") -> str | Path:
    """The folder or hub id in the audit's manifest; the embedded model's folder if that was audited."""
    name, path = str(source.model["id"]), embedded.model_path()
    if name == path.name and path.is_dir():
        return path
    if not Path(name).is_dir() and not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name):
        expected, do = "a manifest whose model id is a folder or a hub id", "name the audited checkpoint with --model"
        raise ModelError(source.path, expected=expected, received=name, do=do)
    return name


def _check_audited(source: "AuditSource", moe: "MoE") -> None:
    """Raise ModelError unless the weights are the audited ones and there is a tokenizer."""
    digest = moe.digest()
    if digest != source.model["digest"]:
        expected = f"the audited weights, digest {source.model['digest'][:12]}"
        do = "give the audited model and dtype"
        raise ModelError(moe.model_id, expected=expected, received=digest[:12], do=do)
    if moe.tokenizer is None:
        raise ModelError(moe.model_id, expected="a tokenizer beside the model", received="none", do="pass tokenizer=")


def _draw_on_audit(run: Path, out: Path, listener: Listener) -> None:
    """Draw the audit's page again with this masking run and those beside it; one that cannot be written stays."""
    from turnout.report import masking_runs, write_report

    try:
        others = [path for path in masking_runs(run) if path.resolve() != out.resolve()]
        write_report(run, [*others, out])
    except RunError as error:
        listener.note(f"the audit's page stays as it was: {error}")
