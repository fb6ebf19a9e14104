"""Routing that was recorded elsewhere, as a run: the chosen experts of vLLM, SGLang or any array of ids.

Shape suffixes: S samples, T tokens of one sample, L MoE layers, E routed experts, K experts chosen per token.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from turnout.auditing.config import AuditConfig
from turnout.errors import RunError
from turnout.exchange.routed_rows import routed_rows
from turnout.exchange.samples import (
    Checked,
    Form,
    ImportConfig,
    Placing,
    check_sample,
    join,
    read_form,
)
from turnout.progress import Progress, silent
from turnout.runs import RunFolder, Sample, TraceLayer
from turnout.runs.digest import sha256
from turnout.runs.layout import UNKNOWN_TOKEN
from turnout.runs.stored import Note, log_note
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
    """What came in. `left_out`: token ids without a row, the last of an answer, which no router saw."""

    path: Path
    samples: int
    tokens: int
    layers: tuple[int, ...]
    experts: int
    top_k: int
    token_ids: bool
    left_out: int

    def to_dict(self) -> dict[str, object]:
        """As a JSON object, with what cannot be computed from it and why."""
        return {**asdict(self), "path": str(self.path), "layers": list(self.layers), "not_computed": NOT_COMPUTED}


def import_routed(
    file: Path | str,
    out: Path | str,
    config: ImportConfig,
    *,
    samples: Path | str | None = None,
    domains: str | Path | None = None,
    progress: Progress = silent,
    note: Note = log_note,
) -> Imported:
    """Make a run of the routed-expert ids in `file`; `turnout audit OUT --kind frequency` measures it.

    Everything is checked before anything is written.

    Args:
        file: npy, npz, Parquet or JSONL; see `runs.routed_files.read_routed`.
        out: the run's folder.
        config: what the ids are of.
        samples: JSONL or Parquet, a row a sample: id, subject, domain, tokens, answer, prompt_tokens; matched by id
            where the file has ids too, else by order. Its fields win over the file's own.
        domains: a domain map by which subjects are placed; None as the samples say, else mmlu-9, else one domain.
        progress: told of each sample.
        note: told in one line of what was left out, and when `out` is complete already.

    Raises:
        RunError: a file, sample, token or layer that is not as it must be; `out` holds something else.
        RecipeError: options that do not fit the file.
        TaskError: a subject that the domain map does not place.
    """
    file, beside, placing = Path(file), None if samples is None else Path(samples), Placing(domains)
    form = read_form(file, config)

    def read() -> Iterator[Checked]:
        pairs = enumerate(join(file, beside, config))
        return (check_sample(i, one, said, form, placing, config.prompt_only) for i, (one, said) in pairs)

    found, shards, left_out = _check_all(read(), progress)
    tasks = _tasks(file, found, placing)
    imported = _imported(Path(out), found, form, left_out)
    with RunFolder.open(out, _inputs(file, config, form, found, tasks)) as run:
        if run.complete:
            note(f"{out}: this run is complete; nothing is imported again")
            return imported
        if left_out:
            said = "samples have a token id more than rows; the last, which no router saw, is left out"
            note(f"{file}: {left_out} {said}")
        _write(run, read(), shards, form.layers, progress, note)
        about = {"model": _model(file, config, form), "tasks": tasks.describe()}
        counts = {name: value for name, value in imported.to_dict().items() if name != "path"}
        run.finish(**about, config=AuditConfig(kind="frequency").describe(), imported=counts, timings={})
    return imported


def _check_all(read: Iterator[Checked], progress: Progress) -> tuple[list[Sample], list[int], int]:
    """Every sample; how many of them each shard takes; how many token ids were left out."""
    found, sizes, left_out = list[Sample](), list[int](), 0
    for checked in read:
        found.append(checked.sample)
        sizes.append(checked.experts_TLK.size)
        left_out += checked.left_out
        progress("checking samples", len(found), len(found) + 1, "samples")
    progress("checking samples", len(found), len(found), "samples")
    return found, _shards(sizes), left_out


def _imported(out: Path, found: Sequence[Sample], form: Form, left_out: int) -> Imported:
    return Imported(
        path=out,
        samples=len(found),
        tokens=sum(len(sample.tokens) for sample in found),
        layers=tuple(layer.layer for layer in form.layers),
        experts=form.layers[0].experts,
        top_k=form.layers[0].top_k,
        token_ids=all(sample.tokens[0] != UNKNOWN_TOKEN for sample in found),
        left_out=left_out,
    )


def _inputs(file: Path, config: ImportConfig, form: Form, found: Sequence[Sample], tasks: TaskSet) -> dict[str, object]:
    """What makes this import this one, wherever its file lies."""
    return {
        "verb": "import",
        "routed": sha256(file),
        "samples": tasks.digest,
        "tokens": _tokens_digest(found),
        "config": {**asdict(config), "layers": [layer.layer for layer in form.layers]},
    }


def _write(
    run: RunFolder,
    read: Iterator[Checked],
    shards: Sequence[int],
    layers: Sequence[TraceLayer],
    progress: Progress,
    note: Note,
) -> None:
    """Write the shards that are not there yet; `shards` says how many samples each has."""
    writer = run.trace_writer(layers, len(shards), warn=note)
    finished, done = writer.done(), 0
    for number, n_samples in enumerate(shards):
        batch = [next(read) for _ in range(n_samples)]
        if number not in finished:
            writer.write(number, routed_rows([c.sample for c in batch], [c.experts_TLK for c in batch], layers))
        done += n_samples
        progress("importing", done, sum(shards), "samples")


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


def _tasks(file: Path, found: Sequence[Sample], placing: Placing) -> TaskSet:
    """The samples as questions without text; RunError where two have one id."""
    seen = set[str]()
    for sample in found:
        if sample.id in seen:
            raise RunError(file, expected="an id of its own for each sample", received=f"{sample.id!r} twice")
        seen.add(sample.id)
    questions = (Question(s.id, s.subject, s.domain, "", (), s.answer) for s in found)
    return TaskSet.of(file.name, questions, domain_map=placing.name, order=placing.domains)


def _tokens_digest(found: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in found:
        digest.update(np.asarray(sample.tokens, "<i4").tobytes() + b"|")
    return digest.hexdigest()


def _model(file: Path, config: ImportConfig, form: Form) -> dict[str, object]:
    """What audit.json says of a model that was not there: its name, its layers, and what is not known of it."""
    unknown: tuple[str, ...] = ("revision", "architecture", "dtype", "digest")
    numbers = [layer.layer for layer in form.layers]
    shape = {"experts": config.experts, "top_k": form.layers[0].top_k, "shared": config.shared}
    name = {"id": config.model or file.stem}
    return {**name, **dict.fromkeys(unknown), "layers": numbers, **shape, "not_computed": NOT_COMPUTED}
