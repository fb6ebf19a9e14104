"""`turnout.compare`: complete runs side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from turnout.api.deprecated import former_names
from turnout.listener import Listener

if TYPE_CHECKING:
    from turnout.comparing.result import Comparison


@former_names()
def compare(
    runs: Sequence[str | Path],
    *,
    against_last: bool = False,
    out: str | Path | None = None,
    listener: Listener | None = None,
) -> "Comparison":
    """Compare complete runs layer by layer: differences with intervals, committees and choices in common.

    Layers are matched by position, or by relative depth where their numbers differ. Differences have 95 % intervals:
    paired ones where two runs asked the same questions.

    >>> result = turnout.compare(["step-1000", "step-5000", "final"], against_last=True, out="compare.html")
    >>> result.frame()

    Args:
        runs: two folders of complete runs or more; differences are from the first.
        against_last: differences are from the last: router saturation along a model's checkpoints.
        out: the file of a page to write.
        listener: receives progress.

    Returns:
        `.layers`, `.pairs`, `.frame()` (a row a layer, run and measure), `.to_dict()`.

    Raises:
        RunError: fewer than two runs, or one that is unfinished or damaged.
    """
    from turnout import report
    from turnout.comparing.run import run

    result = run(runs, against_last, listener or Listener())
    if out is not None:
        report.write_comparison(result.to_dict(), out)
    return result
