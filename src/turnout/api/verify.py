"""`turnout.verify`: whether every file of a run is what was written."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnout.runs.verify import Problem


def verify(run: str | Path) -> "list[Problem]":
    """Compare every file of a run with its digest.

    >>> turnout.verify("run")
    []

    Args:
        run: the run's folder, finished or not.

    Returns:
        One problem for each file that is missing, damaged or unreadable; none for a sound run.

    Raises:
        RunError: there is no run in the folder.
    """
    from turnout.runs.verify import verify as check

    return check(run)
