"""A stored run as figures, a page and terminal rows. Needs neither torch nor the model.

write_report(run)   one self-contained report.html in the run's folder
render(run)         the same page as a string
summary(audit)      an audit as tables for a terminal
compare(runs)       per-layer figures of several runs side by side; comparison_tables(…) for a terminal
figures             each figure of the page as plain data
"""

from turnout.report.claim_words import claim_lines
from turnout.report.comparison import compare, comparison_tables
from turnout.report.page import render, write_report
from turnout.report.stored import StoredRun, read_run
from turnout.report.summary import summary
from turnout.report.terminal import Table

__all__ = [
    "StoredRun",
    "Table",
    "claim_lines",
    "compare",
    "comparison_tables",
    "read_run",
    "render",
    "summary",
    "write_report",
]
