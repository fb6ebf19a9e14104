"""Masking of an audit's committees: the audited questions again under every mask, against matched controls."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnout.errors import ModelError, RecipeError, RunError
from turnout.listener import Listener
from turnout.masking.config import MaskConfig, MaskPlan
from turnout.masking.content import content
from turnout.masking.result import MASKING_FILE, Masking, effects_table, masking_table
from turnout.masking.scores import Evaluator, total_tokens
from turnout.masking.sets import Left, Target, targets
from turnout.masking.source import AuditSource, read_prompts
from turnout.models.change.intervene import fewest_left
from turnout.models.wrap.anatomy import MoE
from turnout.runs import RunFolder

KEEP = ("tables/scores_*",)
"""Files of an unfinished masking run that are worth resuming from."""


def run(
    moe: MoE,
    source: AuditSource,
    chosen: Sequence[Target],
    config: MaskConfig,
    folder: RunFolder,
    listener: Listener,
) -> None:
    """Score the audited questions under every mask of `chosen`, and complete the run in `folder`.

    Args:
        moe: the audited model, with its tokenizer.
        source: the audit.
        chosen: layers and sets, as `masked_targets` returns them.
        config: the settings.
        folder: an open, unfinished run; pieces that it has already are not computed again.
        listener: receives progress, the cost, and pieces that must be computed again.

    Raises:
        RunError: the audit has neither questions with an answer nor texts.
    """
    assert moe.tokenizer is not None
    samples = read_prompts(source.samples, moe.tokenizer, source.path)
    if not samples:
        raise RunError(source.path, expected="questions with an answer, or texts", received="none")
    listener.note(str(_plan(source, chosen)))
    evaluator = Evaluator(moe, samples, source.config.token_budget, config.renormalize, config.generate)
    scores = _scores(folder, evaluator, chosen, listener)
    result, values = content(source, samples, chosen, scores, config)
    folder.write_table("masking", masking_table([t for t in chosen if t.layers], values))
    folder.write_table("effects", effects_table(Masking(result)))
    folder.write_json(MASKING_FILE, result)
    folder.finish(model=source.model, config=config.describe(), audit=source.identity)


def masked_targets(source: AuditSource, config: MaskConfig, moe: MoE) -> list[Target]:
    """The layers and sets of experts to mask.

    Raises:
        RecipeError: a layer without experts.
        ModelError: a set that cannot be masked in any layer, since fewer than K experts would be left.
    """
    chosen = _targets(source, config, _left(moe))
    if not any(target.layers for target in chosen):
        reason = next(iter(chosen[0].left_out.values()), "no layer")
        raise ModelError(source.model["id"], expected=f"a {config.which} that can be masked", received=reason)
    return chosen


def mask_plan(run: Path | str, config: MaskConfig) -> MaskPlan:
    """Cost of a masking run, computed without the model: sets, tokens, and time at the audit's own speed."""
    source = AuditSource.open(run, config.limit)
    experts = {x.layer: len(x.mass_E) for x in source.layers}
    return _plan(source, _targets(source, config, lambda layer, masked: experts[layer] - len(set(masked))))


def _scores(
    folder: RunFolder, evaluator: Evaluator, chosen: Sequence[Target], listener: Listener
) -> list[dict[str, NDArray[np.float64]]]:
    total, done = total_tokens(evaluator.samples, chosen), 0

    def advance(tokens: int) -> None:
        nonlocal done
        done += tokens
        listener.progress("masking", done, total, "tokens")

    advance(0)
    return [evaluator.score(folder, target, advance, listener.note) for target in chosen if target.layers]


def _left(moe: MoE) -> Left:
    """(layer, masked experts) → the fewest experts that a token can still choose from."""
    by_number = {layer.layer: layer for layer in moe.layers}

    def left(number: int, masked: Collection[int]) -> int:
        return fewest_left(by_number[number], masked)

    return left


def _targets(source: AuditSource, config: MaskConfig, left: Left) -> list[Target]:
    numbers = [x.layer for x in source.layers]
    if not isinstance(config.layers, str):
        for number in config.layers:
            if number not in numbers:
                raise RecipeError("layers", expected=f"MoE layers of {numbers}", received=number)
    return targets(source.layers, config.layers, config.which, config.controls, left, config.seed)


def _plan(source: AuditSource, chosen: Sequence[Target]) -> MaskPlan:
    """Time is that of the audit's own forward passes, less the layers below a masked one."""
    tokens = total_tokens(source.samples, chosen)
    deepest = source.layers[-1].layer + 1
    share = {t.name: (deepest - min((x.layer for x in t.layers), default=0)) / deepest for t in chosen}
    read, seconds = source.timings.get("capture_tokens"), source.timings.get("capture_seconds")
    passes = sum(len(t.sets) * share[t.name] for t in chosen)
    a_pass = sum(len(a.tokens) for a in source.samples)
    return MaskPlan(
        sets={str(t.name): len(t.sets) for t in chosen},
        questions=sum(a.width != 0 for a in source.samples),
        texts=sum(a.width == 0 for a in source.samples),
        tokens=tokens,
        seconds=a_pass * passes * seconds / read if read and seconds else None,
    )
