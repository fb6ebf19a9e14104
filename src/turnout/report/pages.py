"""The registry of pages: which folder draws which kind of run.

To add a page for a new kind of run: a folder with a `render_…(folder)` that returns HTML, and a line in PAGES.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from turnout.errors import RunError
from turnout.report.align.page import render_alignment
from turnout.report.audit.page import render_audit
from turnout.report.coupling.page import render_coupling
from turnout.report.plan.page import render_plan
from turnout.report.sweep.page import render_sweep
from turnout.runs import RunFolder

PAGES: dict[str, Callable[[RunFolder], str]] = {
    "audit": render_audit,
    "import": render_audit,
    "eval": render_audit,
    "align": render_alignment,
    "coupling": render_coupling,
    "plan": render_plan,
    "sweep": render_sweep,
}
"""Verb in a run's inputs (manifest.json, `inputs.verb`) → HTML of a finished run of that verb."""


def render(run_path: str | Path, masking_runs: Sequence[str | Path] | None = None) -> str:
    """The page of a finished run as HTML.

    Args:
        run_path: the run's folder.
        masking_runs: masking runs to show on an audit's page; None: those beside it.

    Raises:
        RunError: the run is unfinished, damaged or of a kind without a page; or a masking run is of another audit.
    """
    folder = RunFolder.read(run_path)
    verb = folder.inputs.get("verb")
    if not isinstance(verb, str) or verb not in PAGES:
        expected = f"a run with a page ({', '.join(PAGES)})"
        raise RunError(folder.path, expected=expected, received=f"a run of turnout {verb}")
    if masking_runs is not None:
        return render_audit(folder, masking_runs)
    return PAGES[verb](folder)


def write_report(run_path: str | Path, masking_runs: Sequence[str | Path] | None = None) -> Path:
    """Write a finished run's report.html and return its path; arguments and errors as of `render`."""
    folder = RunFolder.read(run_path)
    folder.write_page(render(run_path, masking_runs))
    return folder.path / "report.html"
