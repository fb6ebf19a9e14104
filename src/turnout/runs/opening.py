"""Open a run folder to work in: a new one, an unfinished one, a complete one, or a temporary one."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from turnout.errors import TurnoutError
from turnout.listener import Listener
from turnout.runs.folder import RunFolder


@contextmanager
def open_run(
    out: Path | str | None, inputs: Mapping[str, object], listener: Listener, *, keep: Sequence[str] = ()
) -> Iterator[RunFolder]:
    """Open the run of `inputs` in `out` under its lock; the caller does the remaining work if it is not `.complete`.

    >>> with open_run(out, inputs, listener, keep=["trace/part-*"]) as run:
    ...     if not run.complete:
    ...         work(moe, tasks, config, run, listener)
    ...     return run.load(Audit)

    Args:
        out: the folder; None: a temporary one, removed with the result that `run.load` returns, or at once on an error.
        inputs: model, questions and settings that identify the run, as JSON; a folder with other inputs is refused.
        listener: receives a note if the run is complete already.
        keep: patterns of files that are worth resuming from. A new run that fails with a TurnoutError before one of
            them exists leaves nothing behind.

    Raises:
        RunError: `out` contains another run or something else, is in use, is damaged, or cannot be written.
    """
    temporary = out is None
    path = Path(tempfile.mkdtemp(prefix="turnout-")) if out is None else Path(out)
    created = not path.exists()
    new = created or (path.is_dir() and not any(path.iterdir()))
    try:
        with RunFolder.open(path, inputs) as run:
            run.temporary = temporary
            if run.complete:
                listener.note(f"{path}: this run is complete; nothing is computed again")
            yield run
    except BaseException as error:
        if temporary:
            shutil.rmtree(path, ignore_errors=True)
        elif new and path.is_dir() and isinstance(error, TurnoutError) and not _worth_keeping(path, keep):
            _remove(path, folder_too=created)
        raise


def _worth_keeping(path: Path, patterns: Sequence[str]) -> bool:
    return (path / "manifest.json").exists() or any(True for pattern in patterns for _ in path.glob(pattern))


def _remove(path: Path, folder_too: bool) -> None:
    for entry in path.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if folder_too:
        path.rmdir()
