"""Whether a run is still what was written: every file held against its digest."""

from dataclasses import dataclass
from pathlib import Path

from turnout.errors import RunError
from turnout.runs import atomic, shards
from turnout.runs.digest import sha256
from turnout.runs.folder import INPUTS, MANIFEST, read_manifest, run_files


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a run; `file` is relative to its folder. As a string, one line."""

    file: str
    expected: str
    came: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, got {self.came}"


def verify(path: Path | str) -> list[Problem]:
    """All that is damaged, missing, foreign or stray in the run at `path`; [] if it is complete and sound.

    An unfinished run has one problem, its missing manifest, as long as the shards that its index lists are sound.

    Raises:
        RunError: there is no run at `path`.
    """
    path = Path(path)
    if not any((path / name).exists() for name in (INPUTS, MANIFEST, "trace")):
        raise RunError(path, expected="a run's folder", came="no run" if path.is_dir() else "no such folder")
    manifest, problems = _manifest(path)
    trace = _trace(path / "trace", manifest is not None) if (path / "trace").exists() else []
    named = {problem.file for problem in trace}
    return problems + trace + [p for p in _files(path, manifest) if p.file not in named]


def _manifest(path: Path) -> tuple[dict[str, object] | None, list[Problem]]:
    if not (path / MANIFEST).exists():
        return None, [Problem(MANIFEST, "a complete run's manifest", "none: the run is unfinished")]
    try:
        return read_manifest(path), []
    except RunError as error:
        return None, [Problem(MANIFEST, error.expected, error.came)]


def _trace(folder: Path, complete: bool) -> list[Problem]:
    try:
        meta = shards.TraceMeta.read(folder)
        entries, torn = shards.read_index(folder)
    except RunError as error:
        return [Problem(f"trace/{shards.META}", error.expected, error.came)]
    faults = [(f"trace/{entry.file}", shards.fault(folder, entry, meta)) for entry in entries]
    problems = [Problem(file, "a sound shard of this run", came) for file, came in faults if came]
    listed = {entry.file for entry in entries}
    wanted = {shards.shard_name(i) for i in range(meta.n_shards)}
    if complete:
        problems += [Problem(f"trace/{name}", "a shard in the index", "none") for name in sorted(wanted - listed)]
        problems += [Problem(f"trace/{shards.INDEX}", "whole lines", f"{torn} that cannot be read")] * bool(torn)
    known = {shards.META, shards.INDEX} | (listed if complete else listed | wanted)
    return problems + _strays(folder, known, complete)


def _strays(folder: Path, known: set[str], complete: bool) -> list[Problem]:
    """Files that no run writes there; what a killed writer left is no stray while the run can still sweep it."""
    found = (file for file in sorted(folder.iterdir()) if file.name not in known)
    strays = (file for file in found if complete or not atomic.is_temporary(file))
    return [Problem(f"{folder.name}/{file.name}", "only files of this run", "a stray one") for file in strays]


def _files(path: Path, manifest: dict[str, object] | None) -> list[Problem]:
    files = (manifest or {}).get("files")
    if not isinstance(files, dict):
        return []
    present = {str(file.relative_to(path)) for file in run_files(path)}
    problems = [Problem(name, "a file of this run", "no file (missing)") for name in sorted(files.keys() - present)]
    for name in sorted(files.keys() & present):
        if sha256(path / name) != files[name]:
            problems.append(Problem(name, f"sha256 {files[name]}", "other bytes (damaged)"))
    tables = path / "tables"
    known = {Path(name).name for name in files if Path(name).parent == Path("tables")}
    return problems + (_strays(tables, known, True) if tables.is_dir() else [])
