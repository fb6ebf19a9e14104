"""`turnout.write_report`: the page of a stored run."""

from collections.abc import Sequence
from pathlib import Path


def write_report(run: str | Path, masking: Sequence[str | Path] | None = None) -> Path:
    """Draw the page of a complete run, report.html in its folder, from the stored tables; no model is needed.

    >>> turnout.write_report("run")

    Args:
        run: the run's folder.
        masking: masking runs of an audit to show on its page; None: those in folders beside it.

    Returns:
        The page's path.

    Raises:
        RunError: no complete run, one of a kind without a page, a damaged file, or a write error.
    """
    from turnout.report import write_report as write

    return write(run, masking)
