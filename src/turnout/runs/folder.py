"""A run folder: inputs.json first, manifest.json last, one process at a time in between."""

import errno
import json
import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from turnout.errors import RunError
from turnout.runs import atomic
from turnout.runs.inputs import INPUTS, OTHER_FOLDER, read_inputs, refuse_difference, versions, write_inputs
from turnout.runs.json_files import canonical, json_sha256, read_object, write_json
from turnout.runs.layout import TraceLayer
from turnout.runs.manifest import FINISH_ANEW, MANIFEST, PAGE, check_file, read_manifest, write_manifest
from turnout.runs.tables import parquet_bytes
from turnout.runs.trace import Trace
from turnout.runs.trace_writer import TraceWriter


class _Loadable(Protocol):
    @classmethod
    def load(cls, path: Path | str, *, already_complete: bool) -> Self: ...


Loaded = TypeVar("Loaded", bound=_Loadable)


class RunFolder:
    """A run on disk, from `open` (to work on it, in a `with` block) or `read` (a complete run, read only).

    Attributes:
        path: the folder.
        inputs: the model, questions and settings that identify the run, as JSON.
        versions: of the packages it was started with: python, turnout, torch, transformers, pyarrow.
        complete: whether its manifest is there.
        temporary: whether the folder is removed with the result that `load` returns.
    """

    def __init__(self, path: Path, lock_file: IO[bytes] | None = None) -> None:
        self.path, self._lock_file = path, lock_file
        self.temporary = False
        self.inputs, self.versions = read_inputs(path)
        self.complete = (path / MANIFEST).exists()
        self._complete_before = self.complete
        self._manifest = read_manifest(path) if self.complete else None

    @classmethod
    def open(cls, path: Path | str, inputs: Mapping[str, object]) -> "RunFolder":
        """Start the run of `inputs` in `path`, or go on with it; `.complete` is True if there is nothing left to do.

        A new or empty folder gets its inputs.json. What a killed process left half-written is removed. Each file of a
        complete run is compared with its digest.

        Raises:
            RunError: the folder contains another run (the input that differs is named) or something that is no run, a
                file of a complete run is missing or damaged, another process is using it, or it cannot be written. A
                folder made for this call is removed again.
        """
        path, requested = Path(path), json.loads(canonical(inputs))
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        lock_file = None
        try:
            _refuse_foreign(path)
            atomic.make_folder(path)
            lock_file = _lock(path)
            _start(path, requested)
            folder = cls(path, lock_file)
            for name in folder.files:
                check_file(path, name, folder.files)
            return folder
        except BaseException:
            if not (path / INPUTS).exists():
                _undo(path, missing, lock_file)
            if lock_file is not None:
                lock_file.close()
            raise

    @classmethod
    def read(cls, path: Path | str) -> "RunFolder":
        """The complete run in `path`; takes no lock and writes nothing.

        Raises:
            RunError: no run there, not complete, or its manifest or inputs cannot be read.
        """
        path = Path(path)
        if not (path / INPUTS).exists() and not (path / MANIFEST).exists():
            raise RunError(path, expected="a run's folder", received="no run" if path.is_dir() else "no such folder")
        if not (path / MANIFEST).exists():
            do = "run the command that started it again: it resumes"
            raise RunError(path, expected="a complete run", received="an unfinished one", do=do)
        return cls(path)

    @property
    def identity(self) -> str:
        """Hex SHA-256 of the inputs: the same for the same run, wherever its folder is."""
        return json_sha256(self.inputs)

    @property
    def manifest(self) -> dict[str, object]:
        """The content of manifest.json; RunError while the run is unfinished."""
        if self._manifest is None:
            raise RunError(self.path / MANIFEST, expected="a complete run", received="an unfinished one")
        return self._manifest

    @property
    def files(self) -> dict[str, str]:
        """The digest of each file that the manifest lists; none while the run is unfinished."""
        files = (self._manifest or {}).get("files")
        return files if isinstance(files, dict) else {}

    def load(self, result: type[Loaded]) -> Loaded:
        """The run's result; a temporary folder is removed with it."""
        loaded = result.load(self.path, already_complete=self._complete_before)
        if self.temporary:
            weakref.finalize(loaded, shutil.rmtree, self.path, ignore_errors=True)
        return loaded

    def write_json(self, name: str, value: object) -> None:
        """Write `value` as `name` (audit.json, …), atomically. NaN is refused (ValueError): undefined is None."""
        self._refuse_complete(name)
        write_json(self.path / name, value)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write `table` as tables/NAME.parquet, atomically; the same bytes for the same rows."""
        self._refuse_complete(name)
        atomic.make_folder(self.path / "tables")
        atomic.write_bytes(self._table(name), parquet_bytes(table))

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Write `arrays` as the safetensors file `name`, atomically."""
        self._refuse_complete(name)
        atomic.write_bytes(self.path / name, save(dict(arrays)))

    def write_page(self, html: str) -> None:
        """Write report.html, atomically. The one file that may be written again after the run is complete."""
        atomic.write_bytes(self.path / PAGE, html.encode("utf-8", "replace"))

    def read_json(self, name: str) -> dict[str, object]:
        """The object in `name`; RunError if it is missing or damaged."""
        self._check(self.path / name)
        return read_object(self.path / name, "a file of this run", FINISH_ANEW)

    def read_arrays(self, name: str) -> dict[str, NDArray[np.generic]] | None:
        """The arrays of the safetensors file `name`; None if the run has none, RunError if it is damaged."""
        if not (self.path / name).exists() and name not in self.files:
            return None
        self._check(self.path / name)
        return load_file(self.path / name)

    def read_table(self, name: str) -> pl.DataFrame:
        """The rows of tables/NAME.parquet; RunError if it is missing or damaged."""
        path = self._table(name)
        self._check(path)
        try:
            return pl.read_parquet(path, glob=False)  # a folder named r[1] is no pattern
        except (OSError, pl.exceptions.PolarsError) as error:
            raise RunError(path, expected="a table of this run", received=error, do=FINISH_ANEW) from error

    def trace_writer(
        self, layers: Sequence[TraceLayer], n_shards: int, warn: Callable[[str], None] | None = None
    ) -> TraceWriter:
        """A writer of this run's trace, its shards marked as this run's."""
        self._refuse_complete("trace")
        folder = self.path / "trace"
        if warn is None:
            return TraceWriter(folder, layers, n_shards, run=self.identity)
        return TraceWriter(folder, layers, n_shards, run=self.identity, warn=warn)

    def trace(self) -> Trace:
        """The finished trace of this run, digests checked."""
        return Trace.open(self.path / "trace", run=self.identity)

    def finish(self, **manifest: object) -> None:
        """Write manifest.json, last: inputs, versions, `manifest` (timings, seed, …) and every file's digest."""
        self._refuse_complete(MANIFEST)
        content = {"inputs": self.inputs, "versions": self.versions, **manifest}
        self._manifest = write_manifest(self.path, content)
        self.complete = True

    def reopen(self) -> None:
        """Make a complete run unfinished again; RunError if other versions finished it, or it cannot be written."""
        if self.complete:
            refuse_difference(self.path, "versions", self.versions, versions())
            try:
                (self.path / MANIFEST).unlink()
            except OSError as error:
                raise atomic.write_error(self.path / MANIFEST, error) from error
            self.complete, self._manifest = False, None

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock_file is not None:
            self._lock_file.close()

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
            raise RunError(self.path / name, expected="an unfinished run", received="a complete one", do=OTHER_FOLDER)

    def _check(self, path: Path) -> None:
        check_file(self.path, str(path.relative_to(self.path)), self.files)


def _start(path: Path, requested: dict[str, object]) -> None:
    """Under the lock: make `path` the run of `requested`, or check that it is."""
    for folder in (path, path / "trace", path / "tables"):
        atomic.sweep(folder)
    if not (path / INPUTS).exists():
        _refuse_foreign(path)
        write_inputs(path, requested)
    if (path / MANIFEST).exists():  # damaged inputs are no other run's
        check_file(path, INPUTS, read_manifest(path)["files"])  # type: ignore[arg-type]  # a mapping: read_manifest
    inputs, stored = read_inputs(path)
    refuse_difference(path, "", inputs, requested)
    if not (path / MANIFEST).exists():  # figures of two versions are never mixed in one run
        refuse_difference(path, "versions", stored, versions())


def _refuse_foreign(path: Path) -> None:
    """Raise unless `path` is absent, a run, or empty apart from files of a run killed at its first step."""
    if path.exists() and not path.is_dir():
        raise RunError(path, expected="a folder", received="a file", do="choose another path with --out")
    if not path.exists() or (path / INPUTS).exists():
        return
    try:
        others = [file.name for file in path.iterdir() if file.name != atomic.LOCK and not atomic.is_temporary(file)]
    except OSError as error:
        raise RunError(path, expected="a folder that can be read", received=error.strerror or error) from error
    if others:
        received = f"a folder with {min(others)}"
        raise RunError(path, expected="a new or empty folder, or a run", received=received, do=OTHER_FOLDER)


def _lock(path: Path) -> IO[bytes] | None:
    """The folder's lock; None for a complete run in a read-only folder, since nothing will be written."""
    try:
        return atomic.lock_folder(path)
    except RunError as error:
        cause = error.__cause__
        unwritable = isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        if unwritable and (path / MANIFEST).exists():
            return None
        raise


def _undo(path: Path, missing: Sequence[Path], lock_file: IO[bytes] | None) -> None:
    """Remove the lock, and the folders in `missing`, of a run that could not write its inputs."""
    with suppress(OSError):  # what cannot be removed stays: an empty folder is no run
        if lock_file is not None:
            (path / atomic.LOCK).unlink(missing_ok=True)
        for folder in missing:
            folder.rmdir()
