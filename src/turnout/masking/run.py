"""`mask`: a finished audit and its model in; what its committees do for the answers, against controls, out."""

import re
import shutil
import tempfile
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout.errors import ModelError, RecipeError, RunError
from turnout.masking.config import MaskConfig, MaskPlan
from turnout.masking.content import content
from turnout.masking.result import MASKING_FILE, Masking, effects_table, masking_table
from turnout.masking.scores import Evaluator, total_tokens
from turnout.masking.sets import Left, Target, targets
from turnout.masking.source import AuditSource, read_prompts
from turnout.models.change.intervene import fewest_left
from turnout.models.wrap.anatomy import MoE, read
from turnout.models.wrap.load import load
from turnout.progress import Progress, silent
from turnout.runs import RunFolder
from turnout.runs.stored import Note, log_note


def mask(
    run: Path | str,
    model: MoE | PreTrainedModel | Path | str | None = None,
    out: Path | str | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    progress: Progress = silent,
    note: Note = log_note,
    loading: Mapping[str, Any] | None = None,
    **options: Any,
) -> Masking:
    """Mask an audit's committees and ask its questions again, against random, least used and mass-matched controls.

    A run that was killed is taken up where it stopped; a complete one is read, not computed again. The model is left as
    it was found.

    Args:
        run: the folder of a complete audit that holds its own trace.
        model: what was audited: a MoE, a live transformers model, a folder or a hub id; None: the id in the manifest.
        out: the new run's folder; None: a temporary one that goes with the result.
        tokenizer: for a live model.
        progress: told how many tokens were read.
        note: told what it will cost, of pieces that must be computed again, and of a run that is complete already.
        loading: what `turnout.load` takes for a path: device, device_map, …
        **options: fields of `MaskConfig`.

    Raises:
        RunError: no complete audit with a trace, or `out` holds something else.
        ModelError: the model cannot be found or loaded, its weights are not those that were audited, or a set cannot be
            masked in any layer.
        RecipeError: an option that does not fit.
    """
    config = MaskConfig.of(options)
    source = AuditSource.open(run, config.limit)
    moe = _moe(source, model, tokenizer, loading or {})
    chosen = _targets(source, config, _left(moe))
    if not any(target.layers for target in chosen):
        reason = next(iter(chosen[0].left_out.values()), "no layer")
        raise ModelError(source.model["id"], expected=f"a {config.which} that can be masked", received=reason)
    evaluator = Evaluator(moe, source.asked, source.config.token_budget, config.renormalise, config.generate)
    inputs = {
        "verb": "mask",
        "audit": source.identity,
        "model": source.model["digest"],
        "config": config.describe(),
    }
    if out is not None:
        return _run(Path(out), inputs, source, evaluator, chosen, config, progress, note)
    path = Path(tempfile.mkdtemp(prefix="turnout-"))
    try:
        result = _run(path, inputs, source, evaluator, chosen, config, progress, note)
    except BaseException:
        shutil.rmtree(path)
        raise
    weakref.finalize(result, shutil.rmtree, path, ignore_errors=True)
    return result


def mask_plan(run: Path | str, **options: Any) -> MaskPlan:
    """What `mask` with these options would cost, without the model: sets, tokens, and time at the audit's own speed."""
    config = MaskConfig.of(options)
    source = AuditSource.open(run, config.limit)
    e_of = {x.layer: len(x.mass_E) for x in source.layers}
    return _plan(source, _targets(source, config, lambda layer, masked: e_of[layer] - len(set(masked))))


def _left(moe: MoE) -> Left:
    """(layer, masked experts) → how many a token can still choose from, at the worst."""
    by_number = {layer.layer: layer for layer in moe.layers}

    def left(number: int, masked: Collection[int]) -> int:
        return fewest_left(by_number[number], masked)

    return left


def _moe(
    source: AuditSource,
    model: MoE | PreTrainedModel | Path | str | None,
    tokenizer: PreTrainedTokenizerBase | None,
    loading: Mapping[str, Any],
) -> MoE:
    """The audited model, its weights checked against the audit's."""
    if model is None:
        model = str(source.model["id"])
        if not Path(model).is_dir() and not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(model)):
            do = "name the audited checkpoint with --model"
            raise ModelError(
                source.path, expected="a manifest whose model id is a folder or a hub id", received=model, do=do
            )
        loading = {"revision": source.model.get("revision"), **loading}
    if isinstance(model, str | Path):
        moe = load(model, **{"dtype": source.model.get("dtype"), **loading})
    else:
        moe = model if isinstance(model, MoE) else read(model, tokenizer)
    digest = moe.digest()
    if digest != source.model["digest"]:
        expected = f"the audited weights, digest {source.model['digest'][:12]}"
        raise ModelError(
            moe.model_id, expected=expected, received=f"{digest[:12]}", do="give the audited model and dtype"
        )
    if moe.tokenizer is None:
        raise ModelError(moe.model_id, expected="a tokenizer beside the model", received="none", do="pass tokenizer=")
    return moe


def _targets(source: AuditSource, config: MaskConfig, left: Left) -> list[Target]:
    numbers = [x.layer for x in source.layers]
    if not isinstance(config.layers, str):
        for number in config.layers:
            if number not in numbers:
                raise RecipeError("layers", expected=f"MoE layers of {numbers}", received=number)
    return targets(source.layers, config.layers, config.which, config.controls, left, config.seed)


def _plan(source: AuditSource, chosen: Sequence[Target]) -> MaskPlan:
    """Time is that of the audit's own forward passes, less the layers below a masked one."""
    tokens = total_tokens(source.asked, chosen)
    deepest = source.layers[-1].layer + 1
    share = {t.name: (deepest - min((x.layer for x in t.layers), default=0)) / deepest for t in chosen}
    read, seconds = source.timings.get("capture_tokens"), source.timings.get("capture_seconds")
    passes = sum(len(t.sets) * share[t.name] for t in chosen)
    a_pass = sum(len(a.tokens) for a in source.asked)
    return MaskPlan(
        sets={str(t.name): len(t.sets) for t in chosen},
        questions=sum(a.width != 0 for a in source.asked),
        texts=sum(a.width == 0 for a in source.asked),
        tokens=tokens,
        seconds=a_pass * passes * seconds / read if read and seconds else None,
    )


def _run(
    path: Path,
    inputs: Mapping[str, object],
    source: AuditSource,
    evaluator: Evaluator,
    chosen: Sequence[Target],
    config: MaskConfig,
    progress: Progress,
    note: Note,
) -> Masking:
    with RunFolder.open(path, inputs) as run:
        if run.complete:
            note(f"{path}: this run is complete; nothing is computed again")
            return Masking.load(path)
        assert evaluator.moe.tokenizer is not None
        asked = read_prompts(evaluator.asked, evaluator.moe.tokenizer, source.path)
        if not asked:
            raise RunError(source.path, expected="questions with an answer, or texts", received="none")
        evaluator = replace(evaluator, asked=asked)
        note(str(_plan(source, chosen)))
        scores = _scores(run, evaluator, chosen, progress, note)
        found, values = content(source, asked, chosen, scores, config)
        run.write_table("masking", masking_table([t for t in chosen if t.layers], values))
        run.write_table("effects", effects_table(Masking(found)))
        run.write_json(MASKING_FILE, found)
        run.finish(model=source.model, config=inputs["config"], audit=source.identity)
    return Masking.load(path)


def _scores(
    run: RunFolder, evaluator: Evaluator, chosen: Sequence[Target], progress: Progress, note: Note
) -> list[dict[str, NDArray[np.float64]]]:
    total, done = total_tokens(evaluator.asked, chosen), 0

    def read(tokens: int) -> None:
        nonlocal done
        done += tokens
        progress("masking", done, total, "tokens")

    progress("masking", 0, total, "tokens")
    return [evaluator.score(run, target, read, note) for target in chosen if target.layers]
