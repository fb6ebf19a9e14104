"""Former names of public arguments: accepted with a DeprecationWarning."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from turnout.listener import Listener

Function = TypeVar("Function", bound=Callable[..., Any])


def former_names(**renamed: str) -> Callable[[Function], Function]:
    """Accept keyword arguments by their former names; `progress=` and `note=` callables become a listener.

    >>> @former_names(renormalise="renormalize")
    ... def mask(run, *, renormalize=False, listener=None): ...
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in renamed.keys() & kwargs.keys():
                _warn(function, f"{old}=", f"{renamed[old]}=")
                kwargs[renamed[old]] = kwargs.pop(old)
            if "progress" in kwargs or "note" in kwargs:
                _warn(function, "progress= and note=", "listener=")
                kwargs["listener"] = _Callables(kwargs.pop("progress", None), kwargs.pop("note", None))
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def _warn(function: Callable[..., Any], old: str, new: str) -> None:
    message = f"turnout.{function.__name__}: deprecated argument {old}; use {new}"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


class _Callables(Listener):
    """A listener made of the two callables that functions took before."""

    def __init__(self, progress: Callable[[str, int, int, str], None] | None, note: Callable[[str], None] | None):
        self._progress, self._note = progress, note

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Call the former `progress=`."""
        if self._progress is not None:
            self._progress(what, done, total, unit)

    def note(self, line: str) -> None:
        """Call the former `note=`, or log."""
        self._note(line) if self._note is not None else super().note(line)
