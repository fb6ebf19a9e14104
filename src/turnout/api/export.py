"""`turnout.export`: a run's tables for other programs."""

from collections.abc import Sequence
from pathlib import Path

from turnout.exchange.exporting import Format
from turnout.exchange.exporting import export as write


def export(run: str | Path, out: str | Path, form: Format = "parquet", tables: Sequence[str] = ()) -> list[Path]:
    """Write tables of a complete run as Parquet, CSV or JSON, with columns.json, which describes their columns.

    >>> turnout.export("run", "tables", "csv", ["contribution"])

    Args:
        run: the run's folder.
        out: a folder; it may contain other files, none of them of the names to be written.
        form: "parquet"; "csv" (UTF-8, texts quoted and made safe for spreadsheets, lists as JSON, undefined is empty);
            "json" (an array of objects, undefined is null).
        tables: names of tables; none for all.

    Returns:
        The files written, columns.json last.

    Raises:
        RunError: no complete run, no such table, a damaged one, a file that exists already, or a write error.
    """
    return write(run, out, form, tables)
