"""Atomic writes, and the lock of a run folder.

A file is written beside its place, flushed, then renamed into it: it is whole or absent.
"""

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from turnout.errors import RunError
from turnout.runs import atomic

_TEMPORARY = re.compile(r"\..+\.tmp-\d+")
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP}  # some network file systems cannot flush a folder
_ADVICE = {
    errno.ENOSPC: "free some space there, then run the same command again",
    errno.EDQUOT: "free some of your quota there, then run the same command again",
    errno.EFBIG: "raise the file size limit, then run the same command again",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that you may write",
    errno.EPERM: "choose a folder that you may write",
}


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all; what was there before stays until then.

    Raises:
        RunError: the disk is full, the folder cannot be written, … Nothing half-written is left.
    """
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes `path`'s place once the block ends well, durably (file and folder are flushed).

    Raises:
        RunError: from any write error inside the block or after it. On any exception the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105  the name that fault-injecting tests patch
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(path, error) from error
        raise


def sync_folder(folder: Path) -> None:
    """Flush `folder`'s own entries, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def write_error(path: Path, error: OSError) -> RunError:
    """An error while writing `path` as one line that states what to do."""
    do = _ADVICE.get(error.errno or 0, "run the same command again: it resumes")
    return RunError(path, expected="to write this file", received=error.strerror or error, do=do)


def make_folder(folder: Path) -> None:
    """Make `folder` (and its parents) if it is not there, or raise RunError."""
    if folder.is_dir():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise write_error(folder, error) from error


def is_temporary(path: Path) -> bool:
    """Whether `path` bears the name of a file that `replacing` had not yet put in its place."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep(folder: Path) -> None:
    """Remove temporary files of killed writers from `folder`; only under the run's lock."""
    for path in sorted(folder.glob(".*.tmp-*")):
        if is_temporary(path):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise write_error(path, error) from error


LOCK = ".lock"


def lock_folder(path: Path) -> IO[bytes]:
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
