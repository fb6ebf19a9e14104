"""Shards of a trace on disk: their names, their stamps, and the index of finished ones."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.errors import RunError
from turnout.runs import atomic
from turnout.runs.json_files import read_object, sha256, write_json
from turnout.runs.layout import TraceLayer, trace_schema

META, INDEX = "meta.json", "index.jsonl"
RESUME = "run the same command again: it resumes"
_KEY = b"turnout"


@dataclass(frozen=True)
class TraceMeta:
    """Description of a trace: the run's identity (digest of its inputs), its layers, its number of shards."""

    run: str
    layers: tuple[TraceLayer, ...]
    n_shards: int

    def write(self, folder: Path) -> None:
        """Store as trace/meta.json."""
        write_json(folder / META, self.describe())

    def describe(self) -> dict[str, object]:
        """As a JSON object."""
        layers = [layer.describe() for layer in self.layers]
        return {"schema": 1, "run": self.run, "n_shards": self.n_shards, "layers": layers}

    @classmethod
    def read(cls, folder: Path) -> "TraceMeta":
        """The meta of the trace in `folder`; RunError if there is none or it cannot be read."""
        path = folder / META
        value = read_object(path, "a trace's description")
        try:
            layers = tuple(TraceLayer(**layer) for layer in value["layers"])  # type: ignore[attr-defined]
            return cls(str(value["run"]), layers, int(value["n_shards"]))  # type: ignore[call-overload]
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(path, expected="a trace's description", received=f"a damaged one ({error!r})") from error


@dataclass(frozen=True)
class ShardEntry:
    """One line of trace/index.jsonl: a shard that is whole. `seconds`: the time its forward passes took."""

    shard: int
    file: str
    sha256: str
    rows: int
    tokens: int
    seconds: float


def shard_name(i: int) -> str:
    """The file name of shard `i`."""
    return f"part-{i:05d}.parquet"


def stamp(rows: pa.Table, meta: TraceMeta, i: int) -> pa.Table:
    """`rows` with the run's identity and the shard's number in the schema's metadata."""
    mark = json.dumps({"run": meta.run, "shard": i, "layers": [layer.describe() for layer in meta.layers]})
    return rows.replace_schema_metadata({_KEY: mark.encode()})


def fault(folder: Path, entry: ShardEntry, meta: TraceMeta) -> str | None:
    """Fault of the shard that `entry` lists, in words; None if it is sound.

    Missing; foreign (from another run, or another shard of this one); damaged (its digest differs).
    """
    path = folder / entry.file
    if entry.file != shard_name(entry.shard) or not 0 <= entry.shard < meta.n_shards:
        return f"the number {entry.shard} of a trace of {meta.n_shards} shards (foreign)"
    if not path.is_file():
        return "no file (missing)"
    try:
        unchanged = sha256(path) == entry.sha256
    except RunError as error:
        return f"a file that cannot be read ({error.received})"
    damaged = None if unchanged else "other bytes than were written (damaged: its sha256 differs)"
    return _foreign(path, entry.shard, meta) or damaged


def _foreign(path: Path, i: int, meta: TraceMeta) -> str | None:
    """Difference of the shard's stamp from this trace; None if there is none, or the shard is too damaged to tell."""
    try:
        schema = pq.read_schema(path)
        mark = json.loads((schema.metadata or {}).get(_KEY, b"{}"))
    except (OSError, pa.ArrowException, ValueError):
        return None
    if not isinstance(mark, dict) or mark.get("run") != meta.run:
        return "a shard of another run (foreign)"
    if mark.get("layers") != [x.describe() for x in meta.layers] or not trace_schema(meta.layers).equals(schema):
        return "a shard of other layers (foreign)"
    return None if mark.get("shard") == i else f"shard {mark.get('shard')} of this run (misplaced)"


def read_index(folder: Path) -> tuple[list[ShardEntry], int]:
    """The shards listed in `folder`, and how many lines could not be read (torn by a kill, or damaged).

    A shard listed twice counts once, as listed last.
    """
    path = folder / INDEX
    if not path.exists():
        return [], 0
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(path, expected="a trace's index", received=error.strerror or error) from error
    entries = [_entry(line) for line in data.split(b"\n")[:-1]]  # a last line without its end is torn
    by_shard = {entry.shard: entry for entry in entries if entry}
    return list(by_shard.values()), sum(entry is None for entry in entries) + (not data.endswith(b"\n"))


def _entry(line: bytes) -> ShardEntry | None:
    try:
        entry = ShardEntry(**json.loads(line))
    except (ValueError, TypeError):
        return None
    types = (int, str, str, int, int, int | float)
    sound = all(isinstance(value, kind) for value, kind in zip(asdict(entry).values(), types, strict=True))
    return entry if sound else None


def write_index(folder: Path, entries: Sequence[ShardEntry]) -> None:
    """Replace the index by `entries`, atomically."""
    atomic.write_bytes(folder / INDEX, b"".join(_line(entry) for entry in entries))


def append_index(folder: Path, entry: ShardEntry) -> None:
    """Add one line, durably; a write that fails leaves the index as it was."""
    path = folder / INDEX
    try:
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                _write_all(file.fileno(), _line(entry))
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(size)
                raise
    except OSError as error:
        raise atomic.write_error(path, error) from error


def _write_all(descriptor: int, data: bytes) -> None:
    while data:  # a nearly full disk takes part of it, then raises
        data = data[os.write(descriptor, data) :]


def _line(entry: ShardEntry) -> bytes:
    return json.dumps(asdict(entry)).encode() + b"\n"
