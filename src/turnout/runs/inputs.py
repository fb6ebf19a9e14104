"""Whether a folder's run is the run that is asked for: its inputs as JSON, compared value by value."""

from importlib.metadata import PackageNotFoundError, version
from platform import python_version

_ABSENT = "nothing"
_PACKAGES = ("turnout", "torch", "transformers", "pyarrow")


def versions() -> dict[str, str | None]:
    """The versions that a run's figures depend on; None for a package that is not installed."""
    return {"python": python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def differences(expected: object, came: object, at: str = "") -> list[tuple[str, object, object]]:
    """Where two JSON values differ: (dotted path, expected, came), in the order of the path; [] if nowhere."""
    if isinstance(expected, dict) and isinstance(came, dict):
        keys = sorted(expected.keys() | came.keys())
        pairs = [(key, expected.get(key, _ABSENT), came.get(key, _ABSENT)) for key in keys]
    elif isinstance(expected, list) and isinstance(came, list) and len(expected) == len(came):
        pairs = [(str(i), e, c) for i, (e, c) in enumerate(zip(expected, came, strict=True))]
    else:
        return [] if type(expected) is type(came) and expected == came else [(at, expected, came)]
    return [found for key, e, c in pairs for found in differences(e, c, f"{at}.{key}" if at else key)]
