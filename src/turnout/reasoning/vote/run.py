"""`vote`: a model and problems in; sampled answers and what voting over them is worth out."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout.errors import ModelError
from turnout.models.forward.generate import sample
from turnout.progress import Progress, silent
from turnout.reasoning.vote.config import VoteConfig
from turnout.reasoning.vote.figures import figures
from turnout.reasoning.vote.result import ANSWERS, VOTES_FILE, Votes, content_of
from turnout.runs import RunFolder, atomic
from turnout.runs.json_files import read_object, write_json
from turnout.tasks.exercises import Exercise, digest, load_exercises, parse_answer

WRITTEN = ".answers"


def vote(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: str | Path,
    out: str | Path,
    *,
    described: dict[str, Any],
    progress: Progress = silent,
    **options: Any,
) -> Votes:
    """Sample answers of each problem, read the final one out of each, and vote.

    A run that was killed keeps what it has written of its answers; a complete one is read.

    Args:
        model: a causal language model, MoE or dense.
        tokenizer: its tokenizer.
        tasks: as `load_exercises` takes them.
        out: the run's folder.
        described: what the run records of the model, its digest among it.
        progress: told how many answers are written.
        **options: fields of `VoteConfig`.

    Raises:
        TurnoutError: an option, the problems or the folder do not fit.
    """
    config = VoteConfig.of(options)
    exercises = load_exercises(tasks, config.problems, seed=config.seed)
    inputs = {"verb": "vote", "model": described, "tasks": digest(exercises), "config": config.describe()}
    with RunFolder.open(out, inputs) as run:
        if run.complete:
            return Votes.load(run.path, already_complete=True)
        said = _answers(model, tokenizer, exercises, config, run.path / WRITTEN, progress)
        rows = figures(
            said,
            [one.answer for one in exercises],
            config.sizes,
            subsets=config.subsets,
            resamples=config.resamples,
            seed=config.seed,
        )
        run.write_table(ANSWERS, _table(exercises, said).to_arrow())
        run.write_json(VOTES_FILE, content_of(described, str(tasks), config, exercises, said, rows))
        run.finish(seed=config.seed)
        shutil.rmtree(run.path / WRITTEN, ignore_errors=True)
        return Votes.load(run.path)


def _answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    exercises: Sequence[Exercise],
    config: VoteConfig,
    kept: Path,
    progress: Progress,
) -> list[list[str | None]]:
    """For each problem the final answer of each sample, None where it has none; each batch is a file in `kept`."""
    said: list[list[str | None]] = []
    prompts = [tokenizer(one.prompt)["input_ids"] for one in exercises]
    empty = next((one.id for one, ids in zip(exercises, prompts, strict=True) if not ids), None)
    if empty is not None:
        raise ModelError(f"exercise {empty}", expected="a prompt of at least one token", received="none")
    atomic.make_folder(kept)
    at_once = max(1, config.batch_size // config.samples)
    for at in range(0, len(prompts), at_once):
        progress("voting", at, len(prompts), "problems")
        batch, file = slice(at, at + at_once), kept / f"{at}.json"
        if file.exists():
            said += read_object(file, "answers of this run", "remove it and run the command again")["said"]  # type: ignore[arg-type]  # a list
            continue
        written = sample(
            model,
            prompts[batch],
            config.samples,
            temperature=config.temperature,
            max_new_tokens=config.most_tokens,
            seed=config.seed + at,
        )
        final = [_final(tokenizer, texts, one) for one, texts in zip(exercises[batch], written, strict=True)]
        write_json(file, {"said": final})
        said += final
    progress("voting", len(prompts), len(prompts), "problems")
    return said


def _final(tokenizer: PreTrainedTokenizerBase, written: Sequence[Sequence[int]], one: Exercise) -> list[str | None]:
    return [parse_answer(tokenizer.decode(ids, skip_special_tokens=True), one.kind) for ids in written]


def _table(exercises: Sequence[Exercise], said: Sequence[Sequence[str | None]]) -> pl.DataFrame:
    """One row a (problem, answer): how often it was given."""
    rows = []
    for one, answers in zip(exercises, said, strict=True):
        counts = pl.Series(answers, dtype=pl.String).value_counts().sort("count", "", descending=[True, False])
        rows += [(one.id, one.level, answer, n, answer == one.answer) for answer, n in counts.iter_rows()]
    schema = {"problem": pl.String, "level": pl.Int64, "answer": pl.String, "times": pl.Int64, "right": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")
