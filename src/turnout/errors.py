"""Exceptions of Turnout. Each message is one line: where, what was expected, what was received, what to do."""

_MAX_LENGTH = 300


class TurnoutError(Exception):
    """Base class: an operation that failed for a reason the user can act on. `str(error)` is one line.

    Args:
        where: the file, row, module or option that the message is about.
        expected: what Turnout needs there.
        received: what was there instead.
        do: what the user can do about it, where that is not obvious.
    """

    def __init__(self, where: object, *, expected: str, received: object, do: str | None = None) -> None:
        self.where, self.expected, self.received = _one_line(where), _one_line(expected), _one_line(received)
        self.do = do and _one_line(do)
        advice = f"; {self.do}" if self.do else ""
        super().__init__(f"{self.where}: expected {self.expected}, got {self.received}{advice}")


class ModelError(TurnoutError):
    """A checkpoint or model that cannot be loaded, or is no MoE that Turnout can read."""


class TaskError(TurnoutError):
    """Questions that cannot be read: a file, a row, a subject, a domain map."""


class RunError(TurnoutError):
    """A run folder that is damaged, foreign, unfinished or full."""


class RecipeError(TurnoutError):
    """A value of a setting, recipe or option that does not fit."""


class MissingExtraError(TurnoutError):
    """A call that needs an optional package which is not installed."""


def _one_line(value: object) -> str:
    """`value` on one line, without control characters, at most 300 characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"
