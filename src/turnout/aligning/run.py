"""An alignment's work in its run folder: train the routers, or reroute each evaluation question; write the files."""

import shutil
import time
from collections.abc import Mapping
from typing import Any

import torch

from turnout.aligning.answers import Letters, accuracy, answer_before_and_after
from turnout.aligning.config import AlignConfig
from turnout.aligning.figures import curves_table, neighbors_table, training_figures
from turnout.aligning.flops import flops_before_and_after
from turnout.aligning.methods import PenaltyInputs, filters_by_success, penalty_of
from turnout.aligning.neighbors import Neighbors, embed, find_neighbors
from turnout.aligning.questions import QuestionSet
from turnout.aligning.reading import Reader, Readings, read_base, read_trained
from turnout.aligning.rerouting.run import ANSWERS, reroute
from turnout.aligning.result import ALIGN_FILE, SCHEMA
from turnout.aligning.training import Trainer
from turnout.listener import Listener
from turnout.models.change.adapter import DESCRIPTION, TENSORS, RouterAdapter, RouterWeights
from turnout.models.forward.tail import Tail
from turnout.models.wrap.anatomy import MoE
from turnout.runs import RunFolder, atomic
from turnout.runs.tables import frame

WORK, CHECKPOINT = ".work", "checkpoint.safetensors"
KEEP = (f"{WORK}/{CHECKPOINT}", f"{WORK}/{ANSWERS}")
"""Files of an unfinished alignment that are worth resuming from."""


def run(
    moe: MoE,
    train: QuestionSet,
    test: QuestionSet | None,
    config: AlignConfig,
    folder: RunFolder,
    listener: Listener,
    *,
    model: Mapping[str, Any],
    start: RouterAdapter | None = None,
) -> None:
    """Train the routers, or reroute the evaluation questions, and complete the run in `folder`.

    The model is left unchanged: the trained routers are the run's adapter.

    Args:
        moe: the model.
        train: the training questions.
        test: the evaluation questions; None: no evaluation. A rerouting method needs them.
        config: method and settings.
        folder: an open, unfinished run; training continues from its checkpoint.
        listener: receives progress and notes.
        model: what `moe.describe()` returned, for align.json and the manifest.
        start: the adapter that `moe` has been loaded with; the trained adapter replaces it and has the same base.

    Raises:
        RecipeError: more layers than the model has, or an embedder that does not load.
        TaskError: too few questions that may be neighbors.
        ModelError: a router that cannot be trained or rerouted, or a base model whose loss is not finite.
    """
    layers = [moe.layers[i] for i in config.chosen_layers(len(moe.layers))]
    token_ids, reading, work = Letters.of(train, config).token_ids, config.reading, folder.path / WORK
    tail = Tail(moe, layers, token_ids, reading.tokens, reading.padding)
    atomic.make_folder(work)
    atomic.sweep(work)
    with tail.opened():
        tail.check(train.ids[:4])
        if config.reroutes:
            assert test is not None, "a rerouting method without evaluation questions"
            outcome = reroute(tail, train, test, config, work, listener)
            folder.write_table("answers", outcome.answers)
            figures, timings = outcome.figures, outcome.timings
        else:
            figures, timings = _train(tail, train, test, config, folder, listener, model, start)
    tasks = {**train.tasks.describe(), "left_out": train.left_out}
    content = {
        "schema": SCHEMA,
        "model": model,
        "tasks": tasks,
        "evaluation": None if test is None else {**test.tasks.describe(), "left_out": test.left_out},
        "config": config.describe(),
        "layers": [layer.layer for layer in layers],
        **figures,
    }
    folder.write_json(ALIGN_FILE, content)
    folder.finish(model=model, tasks=tasks, seed=config.schedule.seed, timings=timings)
    shutil.rmtree(work)


def _train(
    tail: Tail,
    train: QuestionSet,
    test: QuestionSet | None,
    config: AlignConfig,
    folder: RunFolder,
    listener: Listener,
    model: Mapping[str, Any],
    start: RouterAdapter | None,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Train the routers of the tail's layers; write adapter and tables; figures for align.json, and timings."""
    letters, schedule, token_budget = Letters.of(train, config), config.schedule, config.reading.token_budget
    begun = time.monotonic()
    max_bytes = int(schedule.cache_gb * 1e9)
    base, states = read_base(tail, letters, folder.path / WORK, max_bytes, token_budget, listener)
    read = time.monotonic()
    neighbors = _neighbors(tail.moe, train, base, config)
    timings = {"base_seconds": read - begun, "neighbours_seconds": time.monotonic() - read}

    weights = RouterWeights.of(tail.layers)
    reader = Reader(tail, train, states, weights, token_budget)
    penalty = penalty_of(config.method, _penalty_inputs(reader, base, neighbors, config))
    training = Trainer(reader, letters, penalty, config).run(folder.path / WORK / CHECKPOINT, listener)
    timings |= {"training_seconds": training.seconds, "state_bytes": states.bytes}
    if training.stopped:
        listener.note(training.stopped)

    figures: dict[str, Any] = {
        **training_figures(train, base, read_trained(reader, letters, listener), neighbors),
        "training": {"steps": training.steps, "stopped": training.stopped},
        "accuracy": None,
        "flops": None,
    }
    if test is not None:
        answers = answer_before_and_after(tail, Letters.of(test, config), weights, token_budget, listener)
        folder.write_table("answers", answers)
        figures["accuracy"] = accuracy(frame(answers), test.tasks.domains, schedule.seed)
        figures["flops"] = flops_before_and_after(tail, weights, test.ids)
    _write_adapter(folder, weights, tail, config, model, start)
    folder.write_table("curves", curves_table(training.curves))
    folder.write_table("neighbours", neighbors_table(train, neighbors))
    return figures, timings


def _neighbors(moe: MoE, train: QuestionSet, base: Readings, config: AlignConfig) -> Neighbors:
    """The neighbors of the training questions among those that the method admits."""
    texts = [q.text for q in train.questions]
    embedding_SX = embed(texts, config.manifold.embedder, moe, config.reading.token_budget)
    right_S = base.right(train)
    allowed_S = right_S if filters_by_success(config.method) else torch.ones_like(right_S)
    return find_neighbors(embedding_SX, train.texts, allowed_S, config.manifold, train.tasks.name)


def _penalty_inputs(reader: Reader, base: Readings, neighbors: Neighbors, config: AlignConfig) -> PenaltyInputs:
    return PenaltyInputs(
        routing_SF=base.routing_SF,
        neighbors=neighbors,
        domains=[q.domain for q in reader.questions.questions],
        layers=reader.tail.layers,
        weights=reader.weights,
        live_routing=reader.routing if config.manifold.neighbours == "live" else None,
        seed=config.schedule.seed,
    )


def _write_adapter(
    folder: RunFolder,
    weights: RouterWeights,
    tail: Tail,
    config: AlignConfig,
    model: Mapping[str, Any],
    start: RouterAdapter | None,
) -> None:
    """Write the trained routers as an adapter of `model`.

    With `start`, an adapter of its base: its routers that were not trained again are included.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in weights.tensors.items()}
    if config.schedule.stored == "checkpoint":
        tensors = {name: tensor.to(weights.dtypes[name]) for name, tensor in tensors.items()}
    layers = {layer.layer for layer in tail.layers}
    base: Mapping[str, Any] = {name: model[name] for name in ("id", "revision", "digest", "dtype", "architecture")}
    if start is not None:
        tensors, layers, base = {**start.tensors, **tensors}, layers | set(start.layers), start.base
    data, description = RouterAdapter(tensors, base, tuple(sorted(layers)), config.describe()).encoded()
    atomic.write_bytes(folder.path / TENSORS, data)
    folder.write_json(DESCRIPTION, description)
