"""Where a measured coupling comes to lie: a run's folder, or a temporary one that goes with the result."""

import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

from turnout.coupling.result import CouplingResult
from turnout.errors import TurnoutError
from turnout.runs import RunFolder

Note = Callable[[str], None]


def log_note(line: str) -> None:
    """Say one line to who runs a script: a warning of the logger "turnout"."""
    logging.getLogger("turnout").warning(line)


def stored(
    out: str | Path | None, inputs: Mapping[str, object], work: Callable[[RunFolder], None], note: Note
) -> CouplingResult:
    """Let `work` finish the run of `inputs` in `out`, unless it is complete already, and read the result from there.

    With `out` None the folder is a temporary one: removed with the result, or at once if `work` fails.

    Raises:
        RunError: `out` holds another run or something else, is in use, or cannot be written.
    """
    if out is not None:
        return _run(Path(out), inputs, work, note)
    path = Path(tempfile.mkdtemp(prefix="turnout-"))
    try:
        result = _run(path, inputs, work, note)
    except BaseException:
        shutil.rmtree(path)
        raise
    weakref.finalize(result, shutil.rmtree, path, ignore_errors=True)
    return result


def _run(path: Path, inputs: Mapping[str, object], work: Callable[[RunFolder], None], note: Note) -> CouplingResult:
    made = not path.exists()
    fresh = made or (path.is_dir() and not any(path.iterdir()))
    with RunFolder.open(path, inputs) as run:
        if run.complete:
            note(f"{path}: this run is complete; nothing is computed again")
            return CouplingResult.load(path)
        try:
            work(run)
        except TurnoutError:
            if fresh and not any(path.glob("piece-*")):  # it failed before there was anything to go on with
                _take_back(path, made)
            raise
    return CouplingResult.load(path)


def _take_back(path: Path, made: bool) -> None:
    for entry in path.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if made:
        path.rmdir()
