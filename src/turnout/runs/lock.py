"""One process at a time works on a run's folder."""

import fcntl
from pathlib import Path
from typing import IO

from turnout.errors import RunError
from turnout.runs import atomic

LOCK = ".lock"


def take(path: Path) -> IO[bytes]:
    """Lock the folder `path` until the returned file is closed, or this process ends, however it ends.

    Raises:
        RunError: another process has it; the lock cannot be written; a file system without locks.
    """
    try:
        lock = (path / LOCK).open("ab")
    except OSError as error:
        raise atomic.write_error(path / LOCK, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise _refused(path, error) from error
    return lock


def _refused(path: Path, error: OSError) -> RunError:
    if isinstance(error, BlockingIOError):
        do = "wait for it, or choose another folder with --out"
        return RunError(path, expected="a free folder", received="one in use by another process", do=do)
    do = "choose a folder on another disk"
    return RunError(path, expected="a file system that keeps locks", received=error.strerror or error, do=do)
