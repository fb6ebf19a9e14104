"""Comparison of every file of a run with its digest."""

from dataclasses import dataclass
from pathlib import Path

from turnout.errors import RunError
from turnout.runs import atomic, shards
from turnout.runs.inputs import INPUTS, read_inputs
from turnout.runs.json_files import json_sha256, sha256
from turnout.runs.manifest import MANIFEST, PAGE, read_manifest, run_files


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a run; `file` is relative to its folder. As a string, one line."""

    file: str
    expected: str
    received: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, got {self.received}"


def verify(path: Path | str) -> list[Problem]:
    """All that is damaged, missing, foreign or stray in the run at `path`; [] if it is complete and sound.

    An unfinished run has one problem, its missing manifest, as long as the shards that its index lists are sound.

    Raises:
        RunError: there is no run at `path`.
    """
    path = Path(path)
    if not any((path / name).exists() for name in (INPUTS, MANIFEST, "trace")):
        raise RunError(path, expected="a run's folder", received="no run" if path.is_dir() else "no such folder")
    complete = (path / MANIFEST).exists()
    problems, files = _manifest(path)
    run, inputs = _identity(path)
    problems += inputs
    if (path / "trace").is_dir():
        problems += _trace(path / "trace", run, complete)
    named = {problem.file for problem in problems}
    return problems + [problem for problem in _files(path, files) if problem.file not in named]


def not_covered(path: Path | str) -> dict[str, str]:
    """The files of the run at `path` that `verify` does not check, each with the reason."""
    why = "drawn from files that are checked, and can be drawn again at any time: turnout report RUN"
    return {PAGE: why} if (Path(path) / PAGE).exists() else {}


def _manifest(path: Path) -> tuple[list[Problem], dict[str, str]]:
    """Problems of the manifest, and the digests in it."""
    if not (path / MANIFEST).exists():
        return [Problem(MANIFEST, "a complete run's manifest", "none: the run is unfinished")], {}
    try:
        files = read_manifest(path)["files"]
    except RunError as error:
        return [Problem(MANIFEST, error.expected, error.received)], {}
    assert isinstance(files, dict)
    return [], files


def _identity(path: Path) -> tuple[str | None, list[Problem]]:
    try:
        return json_sha256(read_inputs(path)[0]), []
    except RunError as error:
        return None, [Problem(INPUTS, error.expected, error.received)]


def _trace(folder: Path, run: str | None, complete: bool) -> list[Problem]:
    begun = any((folder / name).exists() for name in (shards.META, shards.INDEX))
    if not begun and not complete:
        return _strays(folder, set(), complete)
    try:
        meta = shards.TraceMeta.read(folder)
    except RunError as error:
        return [Problem(f"trace/{shards.META}", error.expected, error.received)]
    try:
        entries, torn = shards.read_index(folder)
    except RunError as error:
        return [Problem(f"trace/{shards.INDEX}", error.expected, error.received)]
    problems = []
    if run is not None and meta.run not in ("", run):
        problems.append(Problem(f"trace/{shards.META}", "the trace of this run", "that of another (foreign)"))
    faults = [(entry.file, shards.fault(folder, entry, meta)) for entry in entries]
    problems += [
        Problem(f"trace/{name}", "a sound shard of this run", received) for name, received in faults if received
    ]
    listed = {entry.file for entry in entries}
    wanted = {shards.shard_name(i) for i in range(meta.n_shards)}
    if complete:
        problems += [Problem(f"trace/{name}", "a shard in the index", "none") for name in sorted(wanted - listed)]
        if torn:
            problems.append(Problem(f"trace/{shards.INDEX}", "whole lines", f"{torn} that cannot be read"))
    return problems + _strays(folder, {shards.META, shards.INDEX} | wanted, complete)


def _strays(folder: Path, known: set[str], complete: bool) -> list[Problem]:
    """Files that no run writes there. Hidden files are ignored, except a writer's leftovers in a complete run."""
    present = [file for file in sorted(folder.iterdir()) if file.name not in known]
    strays = [f for f in present if not f.name.startswith(".") or (complete and atomic.is_temporary(f))]
    return [Problem(f"{folder.name}/{file.name}", "only files of this run", "a stray one") for file in strays]


def _files(path: Path, files: dict[str, str]) -> list[Problem]:
    """The files of a complete run against the digests of its manifest."""
    if not files:
        return []
    present = {str(file.relative_to(path)) for file in run_files(path)}
    problems = [Problem(name, "a file of this run", "no file (missing)") for name in sorted(files.keys() - present)]
    for name in sorted(files.keys() & present):
        received = _fault(path / name, files[name])
        if received:
            problems.append(Problem(name, f"sha256 {files[name]}", received))
    tables = path / "tables"
    known = {Path(name).name for name in files if Path(name).parent == Path("tables")}
    return problems + (_strays(tables, known, True) if tables.is_dir() else [])


def _fault(file: Path, digest: str) -> str | None:
    try:
        return None if sha256(file) == digest else "other bytes (damaged)"
    except RunError as error:
        return f"a file that cannot be read ({error.received})"
