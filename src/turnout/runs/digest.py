"""SHA-256 of files and of JSON values."""

import hashlib
import json
from pathlib import Path


def sha256(path: Path) -> str:
    """Hex SHA-256 of the file at `path`, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
