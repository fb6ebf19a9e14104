"""A stored run as figures, a page and terminal rows. Needs neither torch nor the model.

write_report(run)   one self-contained report.html in the run's folder
render(run)         the same page as a string
summary(audit)      an audit as tables for a terminal
comparison_tables(…), write_comparison(…)   what `auditing.compare` found, for a terminal and as a page
alignment_tables(…), alignment_sentences(…)     what `align` found, for a terminal
coupling_tables(…), coupling_sentences(…)       what `measure_coupling` found, for a terminal
plan_tables(…), plan_sentences(…)   a plan, for a terminal
frontier_tables(…)  what a sweep's trials say together, for a terminal
claim_lines(audit)  what the claim says, in sentences
write_figures(run)  figures for papers, SVG; write_png(files) as PNG too, unless png_missing() says why not
figures             each figure of the page as plain data
"""

from turnout.report.align.page import alignment_sentences, alignment_tables
from turnout.report.audit.claim import claim_lines
from turnout.report.audit.page import render, write_report
from turnout.report.audit.paper import write_figures
from turnout.report.audit.stored import StoredRun, masking_runs, read_run
from turnout.report.audit.summary import summary
from turnout.report.comparing.page import comparison_sentences, comparison_tables, render_comparison, write_comparison
from turnout.report.coupling.words import coupling_sentences, coupling_tables
from turnout.report.kit.png import png_missing, write_png
from turnout.report.kit.text import Table
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
