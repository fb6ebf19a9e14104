"""manifest.json, written last: its presence means that the run is complete; it lists the digest of every file."""

from collections.abc import Mapping
from pathlib import Path

from turnout.errors import RunError
from turnout.runs import shards
from turnout.runs.inputs import INPUTS, MAKE_ANEW, read_inputs
from turnout.runs.json_files import json_sha256, read_object, sha256, write_json

MANIFEST, PAGE = "manifest.json", "report.html"
FINISH_ANEW = "remove manifest.json and run the command that made this run again: intact files are kept"
_MEND = "remove it and manifest.json, then run the command that made this run again: intact files are kept"


def write_manifest(path: Path, content: dict[str, object]) -> dict[str, object]:
    """Write `content` and every file's digest as the manifest of the run in `path`; returns what was written.

    Raises:
        RunError: the trace is unfinished, or a shard is no longer what was written; a write error.
    """
    files = {str(file.relative_to(path)): sha256(file) for file in run_files(path)}
    _check_trace(path / "trace", files)
    manifest = {"schema": 1, **content, "files": files}
    write_json(path / MANIFEST, {**manifest, "sha256": json_sha256(manifest)})
    return manifest


def read_manifest(path: Path) -> dict[str, object]:
    """The manifest of the run in `path`; RunError if it is missing or damaged."""
    file = path / MANIFEST
    manifest = read_object(file, "a complete run's manifest", FINISH_ANEW)
    stored = manifest.pop("sha256", None)
    if stored != json_sha256(manifest) or not isinstance(manifest.get("files"), dict):
        raise RunError(file, expected="the manifest that was written", received="another one (damaged)", do=FINISH_ANEW)
    return manifest


def check_file(path: Path, name: str, files: Mapping[str, object]) -> None:
    """Compare the file `name` of the run in `path` with its digest in `files`, the manifest's.

    Raises:
        RunError: the run is of a kind without such a file; or it is missing, or other than what was written, and the
            message states what to do.
    """
    file, listed = path / name, files.get(name)
    if not file.is_file() and files and name not in files:  # a complete run that never had it: of another kind
        verb = read_inputs(path)[0].get("verb")
        raise RunError(
            path, expected=f"a run with {name}", received=f"a run of turnout {verb}" if verb else "one without"
        )
    if not file.is_file():
        raise RunError(file, expected="a file of this run", received="no file", do=FINISH_ANEW)
    if listed is not None and listed != sha256(file):
        do = MAKE_ANEW if name == INPUTS else _MEND
        raise RunError(file, expected=f"sha256 {listed}", received="other bytes (damaged)", do=do)


def run_files(path: Path) -> list[Path]:
    """Every file of the run that the manifest lists: all except itself, the page, and hidden files."""
    files = (file for file in path.rglob("*") if file.is_file())
    kept = (f for f in files if not any(part.startswith(".") for part in f.relative_to(path).parts))
    return sorted(file for file in kept if file not in (path / MANIFEST, path / PAGE))


def _check_trace(folder: Path, files: dict[str, str]) -> None:
    if not (folder / shards.META).exists():
        return
    n_shards, (entries, _) = shards.TraceMeta.read(folder).n_shards, shards.read_index(folder)
    if len(entries) != n_shards:
        raise RunError(folder, expected=f"{n_shards} finished shards", received=len(entries), do=shards.RESUME)
    for entry in entries:
        if files.get(f"trace/{entry.file}") != entry.sha256:
            raise RunError(folder / entry.file, expected="the shard as written", received="another", do=shards.RESUME)
