"""A run's folder on disk: manifest, trace shards, tables; atomic, resumable, checkable. Imports no torch."""

from turnout.runs.folder import RunFolder
from turnout.runs.layout import TraceLayer, trace_schema
from turnout.runs.rows import Sample, rows
from turnout.runs.trace import Trace
from turnout.runs.trace_writer import TraceWriter
from turnout.runs.verify import Problem, not_covered, verify

__all__ = [
    "Problem",
    "RunFolder",
    "Sample",
    "Trace",
    "TraceLayer",
    "TraceWriter",
    "not_covered",
    "rows",
    "trace_schema",
    "verify",
]
