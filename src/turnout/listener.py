"""Receiver of progress and notes of long work. Scripts pass none; the command line passes one that draws bars."""

import logging

_LOG = logging.getLogger("turnout")


class Listener:
    """Default receiver: ignores progress, logs notes. Subclass it and override what is needed."""

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Receive that `done` of `total` units ("tokens", "steps") of `what` are finished; `done == total` ends it."""

    def trial(self, name: str, state: str) -> None:
        """Receive that a sweep's trial is now "waiting", "running", "done" or "failed"."""

    def note(self, line: str) -> None:
        """Receive one line that a user should read: something left out, computed again, or complete already."""
        _LOG.warning(line)

    def info(self, line: str) -> None:
        """Receive one line about a choice that was made, such as the device."""
        _LOG.info(line)
