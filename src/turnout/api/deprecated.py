"""Former names of public arguments: accepted with a DeprecationWarning."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from turnout.listener import Listener

Function = TypeVar("Function", bound=Callable[..., Any])


def former_names(**renamed: str) -> Callable[[Function], Function]:
    """Accept keyword arguments by their former names; `progress=`, `note=` and `watch=` callables become a listener.

    >>> @former_names(renormalise="renormalize")
    ... def mask(run, *, renormalize=False, listener=None): ...
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in renamed.keys() & kwargs.keys():
                _warn(function, f"{old}=", f"{renamed[old]}=")
                kwargs[renamed[old]] = kwargs.pop(old)
            if kwargs.keys() & {"progress", "note", "watch"}:
                _warn(function, "progress=, note= and watch=", "listener=")
                kwargs["listener"] = _Callables(*(kwargs.pop(name, None) for name in ("progress", "note", "watch")))
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def _warn(function: Callable[..., Any], old: str, new: str) -> None:
    message = f"turnout.{function.__name__}: deprecated argument {old}; use {new}"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


class _Callables(Listener):
    """A listener made of the callables that functions took before."""

    def __init__(
        self,
        progress: Callable[[str, int, int, str], None] | None,
        note: Callable[[str], None] | None,
        watch: Callable[[str, str], None] | None,
    ):
        self._progress, self._note, self._watch = progress, note, watch

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Call the former `progress=`."""
        if self._progress is not None:
            self._progress(what, done, total, unit)

    def note(self, line: str) -> None:
        """Call the former `note=`, or log."""
        self._note(line) if self._note is not None else super().note(line)

    def trial(self, name: str, state: str) -> None:
        """Call the former `watch=`."""
        if self._watch is not None:
            self._watch(name, state)
