"""Files of a hub checkpoint in the local cache, chosen by the same rule as those of a folder."""

from collections.abc import Callable
from pathlib import Path

from transformers.utils import cached_file

from turnout.errors import ModelError
from turnout.models.checkpoint.files import INDEX, SINGLE, inside, read_object, read_weight_map


def fetch(source: str, name: str, revision: str | None) -> Path:
    """A file of the hub id `source`, in the local cache; ModelError if it has none of that name."""
    return _cached(source, name, revision, optional=False)


def fetch_weights(source: str, revision: str | None, wanted: Callable[[str], bool] = lambda _: True) -> list[Path]:
    """The weight files of a hub id, of an index only those with a tensor that is `wanted`; empty if it has none.

    The rule is `weight_files`': what `transformers_weights` names, else model.safetensors, else the files of the index.
    """
    config = fetch(source, "config.json", revision)
    named = read_object(config).get("transformers_weights")
    name = SINGLE if named is None else inside(config.parent, named, config)
    single = _cached(source, name, revision, optional=named is None)
    index = single if single.name.endswith(".index.json") else Path()
    if single.name and not index.name:
        return [single]
    index = index if index.name else _cached(source, INDEX, revision, optional=True)
    if not index.name:
        return []
    files = {file for name, file in read_weight_map(index).items() if wanted(name)}
    return [fetch(source, file, revision) for file in sorted(files)]


def _cached(source: str, name: str, revision: str | None, optional: bool) -> Path:
    """A file in the local cache; an empty path for an optional file that does not exist."""
    try:
        path = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=not optional)
    except (OSError, ValueError) as error:
        received = str(error).strip().splitlines()[0]
        raise ModelError(f"{source} ({name})", expected="a file of a hub checkpoint", received=received) from error
    return Path(path) if path else Path()
