"""One trial, in a process of its own: train, test, audit."""

import json
import math
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout.errors import TurnoutError
from turnout.reasoning.answers import answer
from turnout.runs import atomic
from turnout.sparsity.sweep.recipe import Asked
from turnout.tasks.exercises import Exercise, chains, facts
from turnout.tasks.exercises.generated import FACT_BITS
from turnout.training import TrainRecipe

FOUND, FAILED, RUN, AUDIT = "result.json", "error.json", "run", "audit"
AuditModel = Callable[[Path, str, Path], dict[str, Any]]
"""(a model's folder, tasks, where to) → audit.json's content; whoever puts rooms together passes it."""


@dataclass(frozen=True)
class Job:
    """What a trial's process is given; everything in it can be pickled.

    Attributes:
        recipe: the training recipe, as JSON.
        ask: what the model is asked, as JSON.
        folder: the trial's own.
        tokens_in: where trials on the same text keep its tokens.
        audit: how to audit; None: nothing is audited.
    """

    recipe: dict[str, Any]
    ask: dict[str, Any]
    folder: Path
    tokens_in: Path
    audit: AuditModel | None


def work(job: Job) -> None:
    """Do the trial and write what it found, or its error; both are small JSON files in the trial's folder."""
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        _write(job.folder / FOUND, _trial(job))
    except Exception as error:  # whatever it is, it is kept, and the sweep goes on
        said = str(error) if isinstance(error, TurnoutError) else f"{type(error).__name__}: {error}"
        _write(job.folder / FAILED, {"error": " ".join(said.split())[:500], "traceback": traceback.format_exc()})


def _trial(job: Job) -> dict[str, Any]:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))  # figures depend on it, in the last digits
    logging.disable_progress_bar()  # transformers' own, of a process that nobody watches
    from turnout.training import TrainRecipe, train
    from turnout.training.data import load_tokenizer
    from turnout.training.model import load_model

    recipe, asked = TrainRecipe.parse(job.recipe), Asked.model_validate(job.ask)
    trained = train(recipe, job.folder / RUN, tokens_in=job.tokens_in)
    model = load_model(trained.model)
    found = {
        "held_out_loss": trained.losses,
        "training_loss": _training_loss(trained.path),
        "tasks": ask(model, load_tokenizer(trained.model), recipe, asked),
        "audit": None,
    }
    assert recipe.model is not None
    if job.audit is not None and asked.audit is not None and recipe.model.experts > 1:
        found["audit"] = job.audit(trained.model, asked.audit, job.folder / AUDIT)
    return found


def _training_loss(run: Path) -> float | None:
    """Mean of the last tenth of the logged losses of the text alone, nats a token; None for a run too short to log."""
    import polars as pl

    logged = (
        pl.read_parquet(run / "tables" / "metrics.parquet", glob=False).filter(metric="lm_loss").sort("step")["value"]
    )
    return fmean(logged.tail(max(1, len(logged) // 10))) if len(logged) else None


def _write(file: Path, content: dict[str, Any]) -> None:
    atomic.write_bytes(file, json.dumps(content, allow_nan=False).encode())


_TEST_SEED = 1_000_003  # of chains that are asked; training draws its own from the worlds' seed


def ask(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, recipe: TrainRecipe, asked: Asked
) -> dict[str, dict[str, Any]]:
    """Figures of each task: `facts`, and `chains-N` for each number N of operations.

    Returns:
        {task: `n`, `nats_per_token` and `nats_per_byte` of the gold solution (each averaged over exercises), `accuracy`
        of the final answer that the model writes greedily, its 95 % Wilson `interval`; for facts also
        `bits_per_parameter`: Σ max(0, bits of a value − bits of its loss), scaled to all facts, over all parameters}.
    """
    parameters = sum(p.numel() for p in model.parameters())
    found = {}
    for name, exercises, known in _tasks(recipe, asked):
        answers = answer(model, tokenizer, exercises)
        found[name] = answers.figures()
        if known:
            values = [len(tokenizer(f" {one.answer}", add_special_tokens=False)["input_ids"]) for one in exercises]
            lost = [sum(of[:n]) / math.log(2) for of, n in zip(answers.nats, values, strict=True)]
            kept = sum(max(0.0, FACT_BITS - bits) for bits in lost) / len(lost)
            found[name]["bits_per_parameter"] = kept * known / parameters
    return found


def _tasks(recipe: TrainRecipe, asked: Asked) -> Iterator[tuple[str, list[Exercise], int]]:
    """(name, exercises, how many facts training holds or 0)."""
    seed = recipe.seed if recipe.data.worlds_seed is None else recipe.data.worlds_seed
    taught: set[int] = set()
    for source in recipe.data.sources:
        if source.facts is not None and asked.facts:
            yield source.name, list(islice(facts(source.facts, seed), asked.facts)), source.facts
        taught |= set(source.chains or ())
    for level in sorted(taught | set(asked.levels)) if asked.chains else ():
        yield f"chains-{level}", list(chains("test", asked.chains, (level,), _TEST_SEED)), 0
