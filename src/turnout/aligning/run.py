"""`align`: a model and questions in; trained routers, and what they changed, out."""

import logging
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout.aligning import flops, methods
from turnout.aligning.answers import Letters, accuracy, answers
from turnout.aligning.config import AlignConfig
from turnout.aligning.figures import curves_table, neighbours_table, training_figures
from turnout.aligning.neighbors import Neighbourhood, embed, find
from turnout.aligning.questions import Asked, prepare
from turnout.aligning.reading import Read, Reader, read_base, read_trained
from turnout.aligning.rerouting import Work as Rerouting
from turnout.aligning.result import ALIGN_FILE, SCHEMA, Alignment
from turnout.aligning.training import Trainer, Training
from turnout.errors import RecipeError, TurnoutError
from turnout.models.change.adapter import DESCRIPTION, TENSORS, RouterAdapter, RouterWeights
from turnout.models.forward.tail import Tail
from turnout.models.wrap.anatomy import MoE, MoELayer
from turnout.models.wrap.load import as_moe
from turnout.progress import Progress, silent
from turnout.runs import RunFolder, atomic
from turnout.runs.tables import frame
from turnout.tasks.load import load_tasks
from turnout.tasks.question import TaskSet

Note = Callable[[str], None]
WORK, CHECKPOINT = ".work", "checkpoint.safetensors"
_LOADING = {"dtype", "device", "device_map", "revision", "trust_remote_code"}


def log_note(line: str) -> None:
    """Say one line to who runs a script: a warning of the logger "turnout"."""
    logging.getLogger("turnout").warning(line)


def align(
    model: MoE | PreTrainedModel | str | Path,
    tasks: TaskSet | str | Path,
    evaluation: TaskSet | str | Path | None = None,
    out: str | Path | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    domains: str | Path | None = None,
    limit: int | None = None,
    progress: Progress = silent,
    note: Note = log_note,
    **options: Any,
) -> Alignment:
    """Train the last layers' routers so that like questions route alike (RoMA, arXiv 2511.07419), or by a baseline.

    The model itself is left as it was found: the trained routers are the run's adapter. A run that was killed is taken
    up where it stopped; a complete one is read, not computed again.

    Args:
        model: a MoE, a live transformers model, a checkpoint's folder or hub id.
        tasks: questions to train on, with answers: a name, a folder, a JSONL or Parquet file, or a TaskSet.
        evaluation: questions to be asked before and after; none of them is trained on. None: no evaluation.
        out: the run's folder; None: a temporary one that goes with the result.
        tokenizer: for a live model; a MoE brings its own.
        domains: as in `turnout.audit`.
        limit: at most so many training questions of each subject.
        progress: told how far it is.
        note: told, in one line each, what was left out and what stopped.
        **options: `method` and the fields of `ManifoldConfig`, `ReadingConfig` and `ScheduleConfig`; and, for a
            checkpoint, what `turnout.load` takes: dtype, device, device_map, revision, trust_remote_code.

    Raises:
        TurnoutError: one line that says what could not be: the model, the questions, the options or the folder.
    """
    loading = {name: options.pop(name) for name in _LOADING & options.keys()}
    config = AlignConfig.of(options)
    if config.reroutes and evaluation is None:
        expected, received = f"questions to ask: {config.method} changes routing when a question is asked", "none"
        raise RecipeError("evaluation", expected=expected, received=received, do="give them with --eval")
    train = tasks if isinstance(tasks, TaskSet) else _questions(tasks, domains, limit, "train")
    if evaluation is not None and not isinstance(evaluation, TaskSet):
        evaluation = _questions(evaluation, domains, None, "test")
    moe = as_moe(model, tokenizer, **loading)
    layers = [moe.layers[i] for i in config.chosen_layers(len(moe.layers))]
    asked, tested = prepare(moe, train, evaluation, config.reading.max_length)
    described = moe.describe()
    work = _Work(moe, layers, asked, tested, config, described, progress, note)
    inputs = {
        "verb": "align",
        "model": {key: value for key, value in described.items() if key not in ("id", "revision")},
        "tasks": asked.describe(),
        "evaluation": None if tested is None else tested.describe(),
        "config": config.describe(),
    }
    if out is not None:
        return _stored(Path(out), inputs, work)
    path = Path(tempfile.mkdtemp(prefix="turnout-"))
    try:
        result = _stored(path, inputs, work)
    except BaseException:
        shutil.rmtree(path)
        raise
    weakref.finalize(result, shutil.rmtree, path, ignore_errors=True)
    return result


def _questions(spec: str | Path, domains: str | Path | None, limit: int | None, split: str) -> TaskSet:
    """The questions of `spec`; of a source with splits, the named one."""
    return load_tasks(spec, domains=domains, limit=limit, **({"split": split} if str(spec) == "worlds" else {}))


def _stored(path: Path, inputs: Mapping[str, object], work: "_Work") -> Alignment:
    made = not path.exists()
    fresh = made or (path.is_dir() and not any(path.iterdir()))
    with RunFolder.open(path, inputs) as run:
        if run.complete:
            work.note(f"{path}: this run is complete; nothing is computed again")
            return Alignment.load(path)
        try:
            work.finish(run)
        except TurnoutError:
            if fresh and not (path / WORK / CHECKPOINT).exists():  # it failed before there was anything to go on with
                _take_back(path, made)
            raise
    return Alignment.load(path)


def _take_back(path: Path, made: bool) -> None:
    for entry in path.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if made:
        path.rmdir()


def _flops(tail: Tail, weights: RouterWeights, tested: Asked) -> dict[str, Any]:
    """Operations of a question before and after: trained routers cost what the base's do."""
    prompts = [tested.ids[i] for i in flops.middling(tested.ids)]
    base = flops.of_passes(tail, prompts)
    with weights.in_use():
        return flops.figures(len(prompts), base, flops.of_passes(tail, prompts))


@dataclass(frozen=True, eq=False)
class _Work:
    """One alignment, from the base model's reading to the run's files."""

    moe: MoE
    layers: list[MoELayer]
    asked: Asked
    tested: Asked | None
    config: AlignConfig
    described: Mapping[str, Any]
    progress: Progress
    note: Note

    def finish(self, run: RunFolder) -> None:
        """Do what is left of the run, and write its files."""
        folder, timings = run.path / WORK, {}
        atomic.make_folder(folder)
        atomic.sweep(folder)
        weights, letters = RouterWeights.of(self.layers), self._letters(self.asked)
        reading = self.config.reading
        tail = Tail(self.moe, self.layers, letters.wanted, reading.tokens, reading.padding)
        with tail.opened():
            started = time.monotonic()
            tail.check([self.asked.ids[i] for i in range(min(4, len(self.asked.ids)))])
            if self.config.reroutes:
                self._reroute(run, tail)
                return
            most = int(self.config.schedule.cache_gb * 1e9)
            base, states = read_base(tail, letters, folder, most, reading.token_budget, self.progress)
            timings["base_seconds"] = time.monotonic() - started
            hood = self._hood(base, timings)
            reader = Reader(tail, self.asked, states, weights, reading.token_budget)
            trainer = Trainer(reader, letters, self._penalty(base, hood, reader), self.config)
            training = trainer.run(folder / CHECKPOINT, self.progress)
            timings |= {"training_seconds": training.seconds, "state_bytes": states.bytes}
            if training.stopped:
                self.note(training.stopped)
            trained = read_trained(reader, letters, self.progress)
            content = self._content(base, trained, hood, training)
            if self.tested is not None:
                tested = answers(tail, self._letters(self.tested), weights, reading.token_budget, self.progress)
                run.write_table("answers", tested)
                content["accuracy"] = accuracy(frame(tested), self.tested.tasks.domains, self.config.schedule.seed)
                content["flops"] = _flops(tail, weights, self.tested)
        self._write(run, content, weights, hood, training, timings)
        shutil.rmtree(folder)

    def _reroute(self, run: RunFolder, tail: Tail) -> None:
        assert self.tested is not None, "align asked for it"
        found = Rerouting(tail, self.asked, self.tested, self.config, run.path / WORK, self.progress).run()
        content = {**self._head(), **found.figures}
        run.write_table("answers", found.answers)
        run.write_json(ALIGN_FILE, content)
        seed = self.config.schedule.seed
        run.finish(model=self.described, tasks=content["tasks"], seed=seed, timings=found.timings)
        shutil.rmtree(run.path / WORK)

    def _head(self) -> dict[str, Any]:
        tested = None if self.tested is None else {**self.tested.tasks.describe(), "left_out": self.tested.left_out}
        return {
            "schema": SCHEMA,
            "model": self.described,
            "tasks": {**self.asked.tasks.describe(), "left_out": self.asked.left_out},
            "evaluation": tested,
            "config": self.config.describe(),
            "layers": [layer.layer for layer in self.layers],
        }

    def _content(self, base: Read, trained: Read, hood: Neighbourhood, training: Training) -> dict[str, Any]:
        return {
            **self._head(),
            **training_figures(self.asked, base, trained, hood),
            "training": {"steps": training.steps, "stopped": training.stopped},
            "accuracy": None,
            "flops": None,
        }

    def _letters(self, asked: Asked) -> Letters:
        return Letters(asked, among_all=self.config.reading.target == "vocabulary")

    def _hood(self, base: Read, timings: dict[str, float]) -> Neighbourhood:
        started, manifold = time.monotonic(), self.config.manifold
        texts = [q.text for q in self.asked.questions]
        embedding_SX = embed(texts, manifold.embedder, self.moe, self.config.reading.token_budget)
        right_S = base.predicted_S == self.asked.answer_S
        allowed_S = right_S if methods.filters(self.config.method) else torch.ones_like(right_S)
        hood = find(embedding_SX, self.asked.texts, allowed_S, manifold, self.asked.tasks.name)
        timings["neighbours_seconds"] = time.monotonic() - started
        return hood

    def _penalty(self, base: Read, hood: Neighbourhood, reader: Reader) -> methods.Penalty | None:
        live = reader.routing if self.config.manifold.neighbours == "live" else None
        domains = [q.domain for q in self.asked.questions]
        seed = self.config.schedule.seed
        setting = methods.Setting(base.routing_SF, hood, domains, self.layers, reader.weights, live, seed)
        return methods.penalty(self.config.method, setting)

    def _write(
        self,
        run: RunFolder,
        content: dict[str, Any],
        weights: RouterWeights,
        hood: Neighbourhood,
        training: Training,
        timings: Mapping[str, float],
    ) -> None:
        tensors = {name: tensor.detach().cpu() for name, tensor in weights.tensors.items()}
        if self.config.schedule.stored == "checkpoint":
            tensors = {name: tensor.to(weights.dtypes[name]) for name, tensor in tensors.items()}
        base = {name: self.described[name] for name in ("id", "revision", "digest", "dtype", "architecture")}
        adapter = RouterAdapter(tensors, base, tuple(layer.layer for layer in self.layers), self.config.describe())
        data, description = adapter.encoded()
        atomic.write_bytes(run.path / TENSORS, data)
        run.write_json(DESCRIPTION, description)
        run.write_table("curves", curves_table(training.curves))
        run.write_table("neighbours", neighbours_table(self.asked, hood))
        run.write_json(ALIGN_FILE, content)
        run.finish(model=self.described, tasks=content["tasks"], seed=self.config.schedule.seed, timings=timings)
