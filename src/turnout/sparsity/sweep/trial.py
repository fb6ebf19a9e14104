"""One trial, in a process of its own: train, score and audit a model; its result is a file, written last."""

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

import polars as pl
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from turnout.errors import TurnoutError
from turnout.listener import Listener
from turnout.reasoning.answers import Answers, answer
from turnout.runs import atomic
from turnout.runs.opening import open_run
from turnout.sparsity.sweep.recipe import Scoring
from turnout.tasks.exercises import Exercise, chains, facts
from turnout.tasks.exercises.generated import FACT_BITS
from turnout.training.model import load_model, starting_model
from turnout.training.recipe import TrainRecipe
from turnout.training.result import TrainResult
from turnout.training.run import KEEP, inputs_of
from turnout.training.run import run as run_training
from turnout.training.tokens import load_tokenizer

RESULT, ERROR, RUN, AUDIT = "result.json", "error.json", "run", "audit"
AuditModel = Callable[[Path, str, Path], dict[str, Any]]
"""(model folder, tasks, run folder) → audit.json's content. A parameter, since this room does not import audits."""
_TEST_SEED = 1_000_003  # of the test split's chains; training draws its own from the worlds' seed


@dataclass(frozen=True)
class Job:
    """Arguments of a trial's process; all of them can be pickled.

    Attributes:
        recipe: the training recipe, as JSON.
        scoring: the exercises and audit of the trained model, as JSON.
        folder: the trial's folder.
        tokens_in: the folder where trials on the same text keep its tokens.
        audit: the function that audits a model; None: no audit.
    """

    recipe: dict[str, Any]
    scoring: dict[str, Any]
    folder: Path
    tokens_in: Path
    audit: AuditModel | None


def run_trial(job: Job) -> None:
    """Run the trial and write its result, or its error; each is a small JSON file in the trial's folder."""
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        _write(job.folder / RESULT, _trial(job))
    except Exception as error:  # of any kind: it is stored, and the sweep continues
        message = str(error) if isinstance(error, TurnoutError) else f"{type(error).__name__}: {error}"
        write_error(job.folder, message, traceback.format_exc())


def write_error(folder: Path, message: str, trace: str = "") -> None:
    """Write why a trial failed into its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / ERROR, {"error": " ".join(message.split())[:500], "traceback": trace})


def _trial(job: Job) -> dict[str, Any]:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))  # the last digits of figures depend on it
    logging.disable_progress_bar()  # transformers' own
    recipe, scoring = TrainRecipe.parse(job.recipe), Scoring.model_validate(job.scoring)
    assert recipe.model is not None
    trained = _trained(job, recipe)
    model = load_model(trained.model)
    result = {
        "held_out_loss": trained.losses,
        "training_loss": _training_loss(trained.frame()),
        "tasks": score(model, load_tokenizer(trained.model), recipe, scoring),
        "audit": None,
    }
    if job.audit is not None and scoring.audit is not None and recipe.model.experts > 1:
        result["audit"] = job.audit(trained.model, scoring.audit, job.folder / AUDIT)
    return result


def _trained(job: Job, recipe: TrainRecipe) -> TrainResult:
    """Train the trial's model, or read the complete training run."""
    tokenizer, listener = load_tokenizer(recipe.data.tokenizer), Listener()
    with open_run(job.folder / RUN, inputs_of(recipe), listener, keep=KEEP) as run:
        if not run.complete:
            model = starting_model(recipe, tokenizer)
            run_training(recipe, model, tokenizer, run, listener, tokens_in=job.tokens_in)
    return run.load(TrainResult)


def _training_loss(metrics: pl.DataFrame) -> float | None:
    """Mean of the last tenth of the logged losses of the text alone, nats a token; None for a run too short to log."""
    logged = metrics.filter(metric="lm_loss").sort("step")["value"]
    return fmean(logged.tail(max(1, len(logged) // 10))) if len(logged) else None


def score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, recipe: TrainRecipe, scoring: Scoring
) -> dict[str, dict[str, Any]]:
    """Figures of each task: `facts`, and `chains-N` for each number N of operations.

    Returns:
        {task: `n`, `nats_per_token` and `nats_per_byte` of the gold solution (means over exercises), `accuracy` of the
        final answer that is generated greedily, with its 95 % Wilson `interval`; for facts also `bits_per_parameter`}.
    """
    parameters = sum(p.numel() for p in model.parameters())
    results = {}
    for name, exercises, n_facts in _tasks(recipe, scoring):
        answers = answer(model, tokenizer, exercises)
        results[name] = answers.figures()
        if n_facts:
            results[name]["bits_per_parameter"] = _fact_bits(answers, tokenizer, exercises) * n_facts / parameters
    return results


def _fact_bits(answers: Answers, tokenizer: PreTrainedTokenizerBase, exercises: list[Exercise]) -> float:
    """Mean over facts of max(0, bits of a value − bits of its loss)."""
    lengths = [len(tokenizer(f" {one.answer}", add_special_tokens=False)["input_ids"]) for one in exercises]
    losses = [sum(nats[:n]) / math.log(2) for nats, n in zip(answers.nats, lengths, strict=True)]
    return sum(max(0.0, FACT_BITS - bits) for bits in losses) / len(losses)


def _tasks(recipe: TrainRecipe, scoring: Scoring) -> Iterator[tuple[str, list[Exercise], int]]:
    """(name, exercises, number of facts in training or 0) of each task."""
    seed = recipe.seed if recipe.data.worlds_seed is None else recipe.data.worlds_seed
    trained: set[int] = set()
    for source in recipe.data.sources:
        if source.facts is not None and scoring.facts:
            yield source.name, list(islice(facts(source.facts, seed), scoring.facts)), source.facts
        trained |= set(source.chains or ())
    for level in sorted(trained | set(scoring.levels)) if scoring.chains else ():
        yield f"chains-{level}", list(chains("test", scoring.chains, (level,), _TEST_SEED)), 0


def _write(file: Path, content: dict[str, Any]) -> None:
    atomic.write_bytes(file, json.dumps(content, allow_nan=False).encode())
