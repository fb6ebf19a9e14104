"""Where a verb's result comes to lie: a run's folder, or a temporary one that goes with the result."""

import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from turnout.errors import TurnoutError
from turnout.runs.folder import RunFolder

Note = Callable[[str], None]
Result = TypeVar("Result")


def log_note(line: str) -> None:
    """Say one line to who runs a script: a warning of the logger "turnout"."""
    logging.getLogger("turnout").warning(line)


def stored(
    out: Path | str | None,
    inputs: Mapping[str, object],
    work: Callable[[RunFolder], None],
    load: Callable[[Path], Result],
    note: Note,
    begun: Sequence[str],
) -> Result:
    """Let `work` finish the run of `inputs` in `out`, unless it is complete already, and `load` the result from there.

    With `out` None the folder is a temporary one: removed with the result, or at once if `work` fails.

    Args:
        out: the run's folder, or None.
        inputs: what makes the run this run.
        work: does all that is left to do in the folder.
        load: reads the result from a complete run's folder.
        note: told in one line when the run is complete already.
        begun: patterns of files, in the folder, that are worth going on with. A run that fails before there is one of
            them leaves nothing behind.

    Raises:
        RunError: `out` holds another run or something else, is in use, is damaged, or cannot be written.
    """
    if out is not None:
        return _run(Path(out), inputs, work, load, note, begun)
    path = Path(tempfile.mkdtemp(prefix="turnout-"))
    try:
        result = _run(path, inputs, work, load, note, begun)
    except BaseException:
        shutil.rmtree(path)
        raise
    weakref.finalize(result, shutil.rmtree, path, ignore_errors=True)
    return result


def _run(
    path: Path,
    inputs: Mapping[str, object],
    work: Callable[[RunFolder], None],
    load: Callable[[Path], Result],
    note: Note,
    begun: Sequence[str],
) -> Result:
    made = not path.exists()
    fresh = made or (path.is_dir() and not any(path.iterdir()))
    with RunFolder.open(path, inputs) as run:
        if run.complete:
            note(f"{path}: this run is complete; nothing is computed again")
            return load(path)
        try:
            work(run)
        except TurnoutError:
            if fresh and not any(file for pattern in begun for file in path.glob(pattern)):
                _take_back(path, made)
            raise
    return load(path)


def _take_back(path: Path, made: bool) -> None:
    for entry in path.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if made:
        path.rmdir()
