"""A run's folder: whose it is is written first, that it is complete last; one process at a time in between."""

import fcntl
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

import polars as pl
import pyarrow as pa

from turnout.errors import RunError
from turnout.runs import atomic
from turnout.runs.digest import canonical, json_sha256, sha256
from turnout.runs.inputs import differences, versions
from turnout.runs.json_files import read_object, write_json
from turnout.runs.layout import TraceLayer
from turnout.runs.tables import parquet_bytes
from turnout.runs.trace import Trace, TraceWriter

INPUTS, MANIFEST, LOCK, PAGE = "inputs.json", "manifest.json", ".lock", "report.html"
_OTHER = "choose another folder with --out, or remove this one"


class RunFolder:
    """A run on disk. Made by `open` (to work on it; use it in a `with`) or `read` (a complete run, to look at).

    Attributes:
        path: the folder.
        inputs: what the run was asked to do, as JSON.
        complete: whether its manifest is there.
    """

    def __init__(self, path: Path, record: Mapping[str, object], lock: IO[bytes] | None) -> None:
        self.path, self._record, self._lock = path, record, lock
        inputs = record["inputs"]
        assert isinstance(inputs, dict)
        self.inputs: dict[str, object] = inputs
        self.complete = (path / MANIFEST).exists()
        self._manifest = read_manifest(path) if self.complete else None

    @classmethod
    def open(cls, path: Path | str, inputs: Mapping[str, object]) -> "RunFolder":
        """Start the run of `inputs` in `path`, or go on with it; `.complete` is True if there is nothing left to do.

        A new or empty folder gets its inputs.json. What a killed process left half-written is removed.

        Raises:
            RunError: the folder holds another run (the input that differs is named) or something that is no run,
                another process is using it, or it cannot be written.
        """
        path = Path(path)
        wanted = json.loads(canonical(inputs))
        made = not path.exists()
        _refuse_foreign(path)
        atomic.make_folder(path)
        lock = _lock(path)
        try:
            record = _start(path, wanted)
            return cls(path, record, lock)
        except BaseException:
            lock.close()
            if made and not (path / INPUTS).exists():
                _remove_empty(path)
            raise

    @classmethod
    def read(cls, path: Path | str) -> "RunFolder":
        """The complete run in `path`; takes no lock and writes nothing.

        Raises:
            RunError: no run there, not complete, or its manifest or inputs cannot be read.
        """
        path = Path(path)
        if not (path / INPUTS).exists() and not (path / MANIFEST).exists():
            raise RunError(path, expected="a run's folder", came="no run" if path.is_dir() else "no such folder")
        if not (path / MANIFEST).exists():
            do = "run the command that started it again: it resumes"
            raise RunError(path, expected="a complete run", came="an unfinished one", do=do)
        return cls(path, _read_record(path), None)

    @property
    def identity(self) -> str:
        """Hex SHA-256 of the inputs: the same for the same run, wherever it lies."""
        return json_sha256(self.inputs)

    @property
    def manifest(self) -> dict[str, object]:
        """What manifest.json holds; RunError while the run is unfinished."""
        if self._manifest is None:
            raise RunError(self.path / MANIFEST, expected="a complete run", came="an unfinished one")
        return self._manifest

    def write_json(self, name: str, value: object) -> None:
        """Write `value` as `name` (audit.json, …), atomically. NaN is refused (ValueError): undefined is None."""
        self._refuse_complete(name)
        write_json(self.path / name, value)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write `table` as tables/NAME.parquet, atomically; the same bytes for the same rows."""
        self._refuse_complete(name)
        atomic.make_folder(self.path / "tables")
        atomic.write_bytes(self._table(name), parquet_bytes(table))

    def write_page(self, html: str) -> None:
        """Write report.html, atomically. The one file that may be written again after the run is complete."""
        atomic.write_bytes(self.path / PAGE, html.encode("utf-8", "replace"))

    def read_json(self, name: str) -> dict[str, object]:
        """The object in `name`; RunError if it is missing or damaged."""
        self._check(self.path / name)
        return read_object(self.path / name, "a file of this run")

    def read_table(self, name: str) -> pl.DataFrame:
        """The rows of tables/NAME.parquet; RunError if it is missing or damaged."""
        path = self._table(name)
        self._check(path)
        try:
            return pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise RunError(path, expected="a table of this run", came=error) from error

    def trace_writer(
        self, layers: Sequence[TraceLayer], n_shards: int, warn: Callable[[str], None] | None = None
    ) -> TraceWriter:
        """A writer of this run's trace, its shards marked as this run's."""
        self._refuse_complete("trace")
        options = {} if warn is None else {"warn": warn}
        return TraceWriter(self.path / "trace", layers, n_shards, run=self.identity, **options)

    def trace(self) -> Trace:
        """The finished trace of this run, digests checked."""
        return Trace.open(self.path / "trace")

    def finish(self, **manifest: object) -> None:
        """Write manifest.json, last: inputs, versions, `manifest` (timings, seed, …) and every file's digest."""
        self._refuse_complete(MANIFEST)
        content = {
            "schema": 1,
            "inputs": self.inputs,
            "versions": self._record["versions"],
            **manifest,
            "files": {str(file.relative_to(self.path)): sha256(file) for file in run_files(self.path)},
        }
        write_json(self.path / MANIFEST, {**content, "sha256": json_sha256(content)})
        self._manifest, self.complete = read_manifest(self.path), True

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _table(self, name: str) -> Path:
        return self.path / "tables" / f"{name}.parquet"

    def _refuse_complete(self, name: str) -> None:
        if self.complete:
            raise RunError(self.path / name, expected="an unfinished run", came="a complete one", do=_OTHER)

    def _check(self, path: Path) -> None:
        """Hold a file of a complete run against the manifest's digest."""
        if not path.is_file():
            raise RunError(path, expected="a file of this run", came="no file")
        files = (self._manifest or {}).get("files")
        listed = files.get(str(path.relative_to(self.path))) if isinstance(files, dict) else None
        if listed is not None and listed != sha256(path):
            raise RunError(path, expected=f"sha256 {listed}", came="other bytes (damaged)", do="run the audit anew")


def run_files(path: Path) -> list[Path]:
    """Every file of the run that the manifest answers for: all but the manifest, the page and hidden files."""
    files = (file for file in path.rglob("*") if file.is_file())
    kept = (f for f in files if not any(part.startswith(".") for part in f.relative_to(path).parts))
    return sorted(file for file in kept if file not in (path / MANIFEST, path / PAGE))


def read_manifest(path: Path) -> dict[str, object]:
    """The manifest of the run in `path`; RunError if it is missing or damaged."""
    file = path / MANIFEST
    do = "remove it and run the same command again: the run is finished anew from what is sound"
    manifest = read_object(file, "a run's manifest", do)
    stored = manifest.pop("sha256", None)
    if stored != json_sha256(manifest):
        raise RunError(file, expected="the manifest that was written", came="another one (damaged)", do=do)
    return manifest


def _read_record(path: Path) -> dict[str, object]:
    record = read_object(path / INPUTS, "a run's inputs", _OTHER)
    if not isinstance(record.get("inputs"), dict) or not isinstance(record.get("versions"), dict):
        raise RunError(path / INPUTS, expected="a run's inputs and versions", came="something else", do=_OTHER)
    return record


def _start(path: Path, wanted: dict[str, object]) -> dict[str, object]:
    """Under the lock: this run's record, written if the folder is new, compared if not."""
    for folder in (path, path / "trace", path / "tables"):
        atomic.sweep(folder)
    if not (path / INPUTS).exists():
        _refuse_foreign(path)
        write_json(path / INPUTS, {"schema": 1, "inputs": wanted, "versions": versions()})
    record = _read_record(path)
    _refuse_difference(path, "", record["inputs"], wanted)
    if not (path / MANIFEST).exists():  # figures of two versions are never mixed in one run
        _refuse_difference(path, "versions.", record["versions"], versions())
    return record


def _refuse_difference(path: Path, prefix: str, expected: object, came: object) -> None:
    found = differences(expected, came)
    if not found:
        return
    at, was, now = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise RunError(path, expected=f"{prefix}{at} = {was} of the run that it holds", came=f"{now}{more}", do=_OTHER)


def _refuse_foreign(path: Path) -> None:
    """Raise unless `path` is absent, a run, or empty but for what a run killed at its first step leaves."""
    if path.exists() and not path.is_dir():
        raise RunError(path, expected="a folder", came="a file", do="choose another path with --out")
    if not path.exists() or (path / INPUTS).exists():
        return
    try:
        others = [file.name for file in path.iterdir() if file.name != LOCK and not atomic.is_temporary(file)]
    except OSError as error:
        raise RunError(path, expected="a folder to write in", came=error.strerror or error) from error
    if others:
        raise RunError(path, expected="a new or empty folder, or a run", came=f"one with {min(others)}", do=_OTHER)


def _lock(path: Path) -> IO[bytes]:
    try:
        lock = (path / LOCK).open("ab")
    except OSError as error:
        raise atomic.write_error(path / LOCK, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        if isinstance(error, BlockingIOError):
            do = "wait for it, or choose another folder with --out"
            raise RunError(path, expected="a free folder", came="one in use by another process", do=do) from error
        do = "choose a folder on another disk"
        raise RunError(path, expected="a file system that keeps locks", came=error.strerror, do=do) from error
    return lock


def _remove_empty(path: Path) -> None:
    """Take back a folder that could not even get its inputs."""
    with suppress(OSError):  # what cannot be removed stays: empty, so it is no run
        (path / LOCK).unlink(missing_ok=True)
        path.rmdir()
