"""What a user sees when something cannot be done: one line with where, what was expected, what came and what to do."""

_LONGEST = 300


class TurnoutError(Exception):
    """Something could not be done; the message is one line.

    Args:
        where: the file, row, module or option that the message is about.
        expected: what Turnout needed there.
        came: what it found.
        do: what the user can do about it, where that is not plain.
    """

    def __init__(self, where: object, *, expected: str, came: object, do: str | None = None) -> None:
        self.where, self.expected, self.came, self.do = _line(where), _line(expected), _line(came), do and _line(do)
        advice = f"; {self.do}" if self.do else ""
        super().__init__(f"{self.where}: expected {self.expected}, got {self.came}{advice}")


class ModelError(TurnoutError):
    """A checkpoint or model that cannot be loaded or is no MoE that Turnout can read."""


class TaskError(TurnoutError):
    """Questions that cannot be read: a file, a row, a subject, a domain map."""


class RunError(TurnoutError):
    """A run's folder that is damaged, foreign, unfinished or full."""


class RecipeError(TurnoutError):
    """A recipe or option whose value does not fit."""


class MissingExtraError(TurnoutError):
    """An optional package that this call needs is not installed."""


def _line(value: object) -> str:
    """`value` on one line, without control characters, at most 300 characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
