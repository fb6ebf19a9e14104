"""Where an audit's result comes to lie: a run's folder, or a temporary one that goes with the result."""

from collections.abc import Callable, Mapping
from pathlib import Path

from turnout.auditing.result import Audit
from turnout.runs import RunFolder
from turnout.runs.stored import Note, log_note
from turnout.runs.stored import stored as stored_in

__all__ = ["Note", "log_note", "stored"]

_BEGUN = ("trace/part-*", "eval.json")


def stored(
    out: Path | str | None, inputs: Mapping[str, object], work: Callable[[RunFolder], None], note: Note
) -> Audit:
    """The audit of `inputs` from its run in `out`, which `work` finishes if it is not complete; see `runs.stored`."""
    return stored_in(out, inputs, work, Audit.load, note, _BEGUN)
