"""Import of routing recorded by another engine: chosen experts from vLLM, SGLang or any array of ids, as a run.

Shape suffixes: S samples, T tokens of one sample, L MoE layers, E routed experts, K experts chosen per token.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from turnout.auditing.config import AuditConfig
from turnout.errors import RunError
from turnout.exchange.config import ImportConfig
from turnout.exchange.routed_rows import routed_rows
from turnout.exchange.samples import (
    Checked,
    Form,
    Placing,
    check_sample,
    join,
    read_form,
)
from turnout.listener import Listener
from turnout.runs import RunFolder, Sample, TraceLayer
from turnout.runs.json_files import sha256
from turnout.runs.layout import UNKNOWN_TOKEN
from turnout.tasks.question import Question, TaskSet

NOT_COMPUTED = {
    "gate": "needs the router's full scores; only the chosen experts were recorded",
    "weight": "needs the weights that were applied; only the chosen experts were recorded",
    "released": "needs the weights that were applied; only the chosen experts were recorded",
    "specificity": "is a silhouette of the router's full scores; only the chosen experts were recorded",
    "rotated": "needs the router's rows and inputs; only the chosen experts were recorded",
}
SHARD_CELLS = 1 << 24  # chosen experts in memory together


@dataclass(frozen=True)
class Imported:
    """An imported recording. `left_out`: token ids without a row, the last of an answer, which no router received."""

    path: Path
    samples: int
    tokens: int
    layers: tuple[int, ...]
    experts: int
    top_k: int
    token_ids: bool
    left_out: int

    def to_dict(self) -> dict[str, object]:
        """The numbers as a JSON object, with the figures that cannot be computed from it, and why."""
        return {**asdict(self), "path": str(self.path), "layers": list(self.layers), "not_computed": NOT_COMPUTED}


@dataclass(frozen=True, eq=False)
class Recording:
    """A file of routed-expert ids, checked completely: what identifies the run, and what is written into it."""

    file: Path
    beside: Path | None
    config: ImportConfig
    form: Form
    placing: Placing
    samples: list[Sample]
    shards: list[int]
    left_out: int
    tasks: TaskSet

    @classmethod
    def check(
        cls, file: Path, samples: Path | None, domains: str | Path | None, config: ImportConfig, listener: Listener
    ) -> "Recording":
        """Read the whole file and check every sample.

        Args:
            file: npy, npz, Parquet or JSONL; see `exchange.routed_files.read_routed`.
            samples: JSONL or Parquet with more about each sample.
            domains: a domain map by which subjects are placed.
            config: what the ids are of.
            listener: receives progress.

        Raises:
            RunError: a file, sample, token or layer that does not fit, or two samples of one id.
            RecipeError: settings that do not fit the file.
            TaskError: a subject that the domain map does not contain.
        """
        placing, form = Placing(domains), read_form(file, config)
        checked, shards, left_out = _check_all(_read(file, samples, config, form, placing), listener)
        return cls(file, samples, config, form, placing, checked, shards, left_out, _tasks(file, checked, placing))

    @property
    def inputs(self) -> dict[str, object]:
        """What identifies the run, wherever the file is."""
        numbers = [layer.layer for layer in self.form.layers]
        return {
            "verb": "import",
            "routed": sha256(self.file),
            "samples": self.tasks.digest,
            "tokens": _tokens_digest(self.samples),
            "config": {**self.config.describe(), "layers": numbers},
        }

    def describe(self, path: Path) -> Imported:
        """Numbers of samples, tokens, layers and experts, for the run in `path`."""
        return Imported(
            path=path,
            samples=len(self.samples),
            tokens=sum(len(sample.tokens) for sample in self.samples),
            layers=tuple(layer.layer for layer in self.form.layers),
            experts=self.form.layers[0].experts,
            top_k=self.form.layers[0].top_k,
            token_ids=all(sample.tokens[0] != UNKNOWN_TOKEN for sample in self.samples),
            left_out=self.left_out,
        )


def run(recording: Recording, folder: RunFolder, listener: Listener) -> None:
    """Write the trace of `recording`, and complete the run in `folder`.

    Args:
        recording: the checked file.
        folder: an open, unfinished run; shards that it has already are kept.
        listener: receives progress, and a note of token ids that were left out.
    """
    if recording.left_out:
        reason = "samples have one token id more than rows; the last, which no router received, is left out"
        listener.note(f"{recording.file}: {recording.left_out} {reason}")
    again = _read(recording.file, recording.beside, recording.config, recording.form, recording.placing)
    _write(folder, again, recording.shards, recording.form.layers, listener)
    counts = {name: value for name, value in recording.describe(folder.path).to_dict().items() if name != "path"}
    folder.finish(
        model=_model(recording.file, recording.config, recording.form),
        tasks=recording.tasks.describe(),
        config=AuditConfig(kind="frequency").describe(),
        imported=counts,
        timings={},
    )


def _read(file: Path, beside: Path | None, config: ImportConfig, form: Form, placing: Placing) -> Iterator[Checked]:
    pairs = enumerate(join(file, beside, config))
    return (check_sample(i, one, fields, form, placing, config.prompt_only) for i, (one, fields) in pairs)


def _check_all(read: Iterator[Checked], listener: Listener) -> tuple[list[Sample], list[int], int]:
    """Every sample; how many of them each shard takes; how many token ids were left out."""
    samples, sizes, left_out = list[Sample](), list[int](), 0
    for checked in read:
        samples.append(checked.sample)
        sizes.append(checked.experts_TLK.size)
        left_out += checked.left_out
        listener.progress("checking samples", len(samples), len(samples) + 1, "samples")
    listener.progress("checking samples", len(samples), len(samples), "samples")
    return samples, _shards(sizes), left_out


def _write(
    run: RunFolder,
    read: Iterator[Checked],
    shards: Sequence[int],
    layers: Sequence[TraceLayer],
    listener: Listener,
) -> None:
    """Write the shards that are not there yet; `shards` says how many samples each has."""
    writer = run.trace_writer(layers, len(shards), warn=listener.note)
    finished, done = writer.done(), 0
    for number, n_samples in enumerate(shards):
        batch = [next(read) for _ in range(n_samples)]
        if number not in finished:
            writer.write(number, routed_rows([c.sample for c in batch], [c.experts_TLK for c in batch], layers))
        done += n_samples
        listener.progress("importing", done, sum(shards), "samples")


def _shards(sizes: Sequence[int]) -> list[int]:
    """How many samples each shard has: as many as fit its budget, one at least."""
    shards, held = [0], 0
    for size in sizes:
        if shards[-1] and held + size > SHARD_CELLS:
            shards.append(0)
            held = 0
        shards[-1] += 1
        held += size
    return shards


def _tasks(file: Path, samples: Sequence[Sample], placing: Placing) -> TaskSet:
    """The samples as questions without text; RunError where two have one id."""
    seen = set[str]()
    for sample in samples:
        if sample.id in seen:
            raise RunError(file, expected="an id of its own for each sample", received=f"{sample.id!r} twice")
        seen.add(sample.id)
    questions = (Question(s.id, s.subject, s.domain, "", (), s.answer) for s in samples)
    return TaskSet.of(file.name, questions, domain_map=placing.name, order=placing.domains)


def _tokens_digest(samples: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(np.asarray(sample.tokens, "<i4").tobytes() + b"|")
    return digest.hexdigest()


def _model(file: Path, config: ImportConfig, form: Form) -> dict[str, object]:
    """What audit.json says of a model that was not there: its name, its layers, and what is not known of it."""
    unknown: tuple[str, ...] = ("revision", "architecture", "dtype", "digest")
    numbers = [layer.layer for layer in form.layers]
    shape = {"experts": config.experts, "top_k": form.layers[0].top_k, "shared": config.shared}
    name = {"id": config.model or file.stem}
    return {**name, **dict.fromkeys(unknown), "layers": numbers, **shape, "not_computed": NOT_COMPUTED}
