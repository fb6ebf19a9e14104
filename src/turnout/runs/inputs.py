"""Inputs that identify a run, compared value by value with those of a command."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

from turnout.errors import RunError
from turnout.runs.json_files import canonical, read_object, write_json

INPUTS = "inputs.json"
OTHER_FOLDER = "choose another folder with --out, or remove this one"
MAKE_ANEW = "restore it from a copy, or repeat the run in another folder"
PACKAGES = ("turnout", "torch", "transformers", "pyarrow")
_ABSENT = object()
_SHA256 = re.compile("[0-9a-f]{64}")
_DIGEST_OF = {
    "model": "the model's weights",
    "model.digest": "the model's weights",
    "tasks.digest": "the set of questions",
    "tasks.prompts": "the wording of the prompts (tokenizer, chat template, examples)",
    "domains.placed": "each sample's domain",
    "trace_of": "the run that is measured",
    "audit": "the audited run",
    "routed": "the file of routed experts",
    "samples": "the set of samples",
    "tokens": "the samples' token ids",
}  # dotted path of a digest in the inputs → what it is a digest of


def versions() -> dict[str, object]:
    """The versions that a run's figures depend on; None for a package that is not installed."""
    return {"python": python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def write_inputs(path: Path, inputs: dict[str, object]) -> None:
    """Write the inputs.json of the run in `path`: its inputs, and the versions it is run with."""
    write_json(path / INPUTS, {"schema": 1, "inputs": inputs, "versions": versions()})


def read_inputs(path: Path) -> tuple[dict[str, object], dict[str, object]]:
    """The inputs and versions of the run in `path`; RunError if they cannot be read."""
    record = read_object(path / INPUTS, "a run's inputs", MAKE_ANEW)
    inputs, stored = record.get("inputs"), record.get("versions")
    if not isinstance(inputs, dict) or not isinstance(stored, dict):
        raise RunError(path / INPUTS, expected="a run's inputs and versions", received="something else", do=MAKE_ANEW)
    return inputs, stored


def refuse_difference(path: Path, name: str, stored: dict[str, object], requested: dict[str, object]) -> None:
    """Raise RunError naming the most informative value in which the stored run differs from the requested one.

    That is the verb, else the first value that a person can read, else the first digest, in words.
    """
    results = sorted(differences(stored, requested, name), key=lambda one: (one[0] != "verb", _are_digests(*one[1:])))
    if not results:
        return
    at, was, now = results[0]
    more = f" (and {len(results) - 1} more)" if len(results) > 1 else ""
    expected, received = f"{at} = {_shown(was)}, as in the run that it contains", _shown(now)
    if _are_digests(was, now):
        expected = f"{_DIGEST_OF.get(at, at)} as in the run that it contains (sha256 {str(was)[:8]}…)"
        received = f"another (sha256 {str(now)[:8]}…)"
    raise RunError(path, expected=expected, received=received + more, do=OTHER_FOLDER)


def differences(stored: object, requested: object, at: str = "") -> list[tuple[str, object, object]]:
    """Where two JSON values differ: (dotted path, stored, asked), in the order of the path; [] if nowhere."""
    if isinstance(stored, dict) and isinstance(requested, dict):
        keys = sorted(stored.keys() | requested.keys())
        pairs = [(key, stored.get(key, _ABSENT), requested.get(key, _ABSENT)) for key in keys]
    elif isinstance(stored, list) and isinstance(requested, list) and len(stored) == len(requested):
        pairs = [(str(i), was, now) for i, (was, now) in enumerate(zip(stored, requested, strict=True))]
    else:
        return [] if type(stored) is type(requested) and stored == requested else [(at, stored, requested)]
    return [results for key, was, now in pairs for results in differences(was, now, f"{at}.{key}" if at else key)]


def _are_digests(*values: object) -> bool:
    return all(isinstance(value, str) and _SHA256.fullmatch(value) for value in values)


def _shown(value: object) -> str:
    text = "nothing" if value is _ABSENT else canonical(value)
    return text if len(text) <= 80 else text[:79] + "…"
