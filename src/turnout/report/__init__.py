"""A stored run as a page, terminal tables and figures for papers. Needs neither torch nor the model.

Pages: `write_report(run)` writes a run's report.html, `render(run)` returns it; `pages.PAGES` lists the kinds of run.
`write_comparison(comparison, path)` writes a comparison's page.

Terminal: for each kind of run the tables and sentences that its command prints.

Papers and notebooks: `figures` has each figure of an audit's page as plain data, `read_run(run)` reads a run for it,
`write_figures(run, folder)` writes SVG files, `write_png(files)` PNG files, `png_missing()` says what PNG files need.
"""

from turnout.report.align.words import alignment_sentences, alignment_tables
from turnout.report.audit import figures
from turnout.report.audit.claim import claim_lines
from turnout.report.audit.paper import write_figures
from turnout.report.audit.stored import StoredRun, masking_runs, read_run
from turnout.report.audit.summary import summary
from turnout.report.comparing.page import render_comparison, write_comparison
from turnout.report.comparing.words import comparison_sentences, comparison_tables
from turnout.report.coupling.words import coupling_sentences, coupling_tables
from turnout.report.kit.png import png_missing, write_png
from turnout.report.kit.text import Table
from turnout.report.pages import render, write_report
from turnout.report.plan.words import plan_sentences, plan_tables
from turnout.report.sweep.words import frontier_tables

__all__ = [
    "StoredRun",
    "Table",
    "alignment_sentences",
    "alignment_tables",
    "claim_lines",
    "comparison_sentences",
    "comparison_tables",
    "coupling_sentences",
    "coupling_tables",
    "figures",
    "frontier_tables",
    "masking_runs",
    "plan_sentences",
    "plan_tables",
    "png_missing",
    "read_run",
    "render",
    "render_comparison",
    "summary",
    "write_comparison",
    "write_figures",
    "write_png",
    "write_report",
]
