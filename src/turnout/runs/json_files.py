"""JSON files of a run, and SHA-256 digests of files and of JSON values."""

import hashlib
import json
from pathlib import Path

from turnout.errors import RunError
from turnout.runs import atomic


def sha256(path: Path) -> str:
    """Hex SHA-256 of the file at `path`, read in pieces; RunError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(path, expected="a file that can be read", received=error.strerror or error) from error


def canonical(value: object) -> str:
    """`value` as JSON with sorted keys and no spaces: equal values have equal text.

    Raises:
        TypeError: something in `value` is no JSON.
        ValueError: a number in it is NaN or infinite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_sha256(value: object) -> str:
    """Hex SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


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
        RunError: no such file, or no JSON object; `what` names what was expected and `do` what the user can do.
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
