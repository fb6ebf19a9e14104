"""How long work tells how far it is, without knowing who listens. The command line draws bars; scripts hear nothing."""

from typing import Protocol


class Progress(Protocol):
    """Called with what is being done, how much is done, how much there is, and the unit ('tokens', 'steps')."""

    def __call__(self, what: str, done: int, total: int, unit: str) -> None:
        """Take note of `done` of `total`; `done == total` ends `what`."""
        ...


def silent(what: str, done: int, total: int, unit: str) -> None:
    """Listen to nothing."""
