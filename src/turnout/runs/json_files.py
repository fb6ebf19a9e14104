"""The run's JSON files: readable by people, the same bytes for the same value."""

import json
from pathlib import Path

from turnout.errors import RunError
from turnout.runs import atomic


def write_json(path: Path, value: object) -> None:
    """Write `value` atomically: keys in the order given, indented, UTF-8.

    Raises:
        ValueError: a number is NaN or infinite (an undefined figure is written as None).
        RunError: it cannot be written.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A file name that is not UTF-8 reaches Python as lone surrogates; \udcXX is their JSON escape.
    atomic.write_bytes(path, text.encode("utf-8", "backslashreplace"))


def read_object(path: Path, what: str, do: str | None = None) -> dict[str, object]:
    """The JSON object at `path`.

    Raises:
        RunError: no such file, or it holds something else; `what` and `do` say what was wanted and what helps.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(path, expected=what, received=error.strerror or error, do=do) from error
    except ValueError as error:
        raise RunError(path, expected=what, received=f"a damaged file ({error})", do=do) from error
    if not isinstance(value, dict):
        raise RunError(path, expected=what, received=f"a JSON {type(value).__name__}", do=do)
    return value
