"""SHA-256 of files and of JSON values."""

import hashlib
import json
from pathlib import Path

from turnout.errors import RunError


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
