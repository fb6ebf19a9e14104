"""The page of a run, drawn once the run is complete."""

from pathlib import Path

from turnout.runs import RunFolder
from turnout.runs.manifest import PAGE


def draw_page(run: RunFolder) -> None:
    """Write the run's report.html unless it exists already, or the folder is a temporary one."""
    from turnout.report import write_report

    if not run.temporary and not (Path(run.path) / PAGE).exists():
        write_report(run.path)
