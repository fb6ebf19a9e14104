"""A listener that keeps what it receives, for tests."""

from collections.abc import Callable

from turnout.listener import Listener


class Recorder(Listener):
    """Appends notes to `notes`, states of trials to `trials`, and passes progress on to `on_progress`."""

    def __init__(
        self, notes: list[str] | None = None, on_progress: Callable[[str, int, int, str], None] | None = None
    ) -> None:
        self.notes: list[str] = [] if notes is None else notes
        self.trials: list[tuple[str, str]] = []
        self._on_progress = on_progress

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Pass it on."""
        if self._on_progress is not None:
            self._on_progress(what, done, total, unit)

    def trial(self, name: str, state: str) -> None:
        """Keep the state."""
        self.trials.append((name, state))

    def note(self, line: str) -> None:
        """Keep the line."""
        self.notes.append(line)
