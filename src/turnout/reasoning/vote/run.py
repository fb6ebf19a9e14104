"""A vote's work in its run folder: sample answers batch by batch, parse the final ones, count the votes."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout.errors import ModelError
from turnout.listener import Listener
from turnout.models.forward.generate import sample
from turnout.reasoning.vote.config import VoteConfig
from turnout.reasoning.vote.result import ANSWERS, VOTES_FILE, answer_table, content_of
from turnout.runs import RunFolder, atomic
from turnout.runs.json_files import read_object, write_json
from turnout.tasks.exercises import Exercise, parse_answer
from turnout.tasks.prompts import encode_text

BATCHES = ".answers"
KEEP = (f"{BATCHES}/*.json",)
"""Files of an unfinished run that are worth resuming from."""


def run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    exercises: Sequence[Exercise],
    config: VoteConfig,
    folder: RunFolder,
    listener: Listener,
    *,
    described: Mapping[str, Any],
    tasks: str,
) -> None:
    """Sample answers to each problem, vote over their final answers, and complete the run in `folder`.

    Args:
        model: a causal language model, MoE or dense.
        tokenizer: its tokenizer.
        exercises: the problems.
        config: the settings.
        folder: an open, unfinished run; batches of answers that it contains are kept.
        listener: receives the number of problems that are answered.
        described: the description of the model in votes.json.
        tasks: the exercises, as they were named.

    Raises:
        ModelError: the tokenizer makes an empty prompt.
    """
    answers_PN = _answers(model, tokenizer, exercises, config, folder.path / BATCHES, listener)
    folder.write_table(ANSWERS, answer_table(exercises, answers_PN).to_arrow())
    folder.write_json(VOTES_FILE, content_of(described, tasks, config, exercises, answers_PN))
    folder.finish(seed=config.seed)
    shutil.rmtree(folder.path / BATCHES, ignore_errors=True)


def _answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    exercises: Sequence[Exercise],
    config: VoteConfig,
    batches: Path,
    listener: Listener,
) -> list[list[str | None]]:
    """The final answer of each sample, problem by problem; None if it has none. Each batch is a file in `batches`."""
    prompts = [encode_text(tokenizer, one.prompt) for one in exercises]
    empty = next((one.id for one, ids in zip(exercises, prompts, strict=True) if not ids), None)
    if empty is not None:
        raise ModelError(f"exercise {empty}", expected="a prompt of at least one token", received="none")
    atomic.make_folder(batches)
    answers_PN: list[list[str | None]] = []
    step = max(1, config.batch_size // config.samples)
    for start in range(0, len(prompts), step):
        listener.progress("voting", start, len(prompts), "problems")
        batch, file = slice(start, start + step), batches / f"{start}.json"
        if not file.exists():
            generated = sample(
                model,
                prompts[batch],
                config.samples,
                temperature=config.temperature,
                max_new_tokens=config.max_new_tokens,
                tokenizer=tokenizer,
                seed=config.seed + start,
            )
            final = [_final(tokenizer, texts, one) for one, texts in zip(exercises[batch], generated, strict=True)]
            write_json(file, {"said": final})
        stored = read_object(file, "answers of this run", "remove it and run the command again")
        answers_PN += stored["said"]  # type: ignore[arg-type]  # a list of lists
    listener.progress("voting", len(prompts), len(prompts), "problems")
    return answers_PN


def _final(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[int]], one: Exercise) -> list[str | None]:
    return [parse_answer(tokenizer.decode(ids, skip_special_tokens=True), one.kind) for ids in texts]
