"""Where a measured coupling comes to lie: a run's folder, or a temporary one that goes with the result."""

from collections.abc import Callable, Mapping
from pathlib import Path

from turnout.coupling.result import CouplingResult
from turnout.runs import RunFolder
from turnout.runs.stored import Note, log_note
from turnout.runs.stored import stored as stored_in

__all__ = ["Note", "log_note", "stored"]


def stored(
    out: str | Path | None, inputs: Mapping[str, object], work: Callable[[RunFolder], None], note: Note
) -> CouplingResult:
    """The coupling of `inputs` from its run in `out`, which `work` finishes if need be; see `runs.stored`."""
    return stored_in(out, inputs, work, CouplingResult.load, note, begun=("piece-*",))
