"""A run's tables for other programs: Parquet, CSV or JSON, with a dictionary of their columns."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from turnout.errors import RunError
from turnout.exchange.columns import COLUMNS, TABLES
from turnout.runs import atomic
from turnout.runs.folder import RunFolder
from turnout.runs.json_files import write_json
from turnout.runs.tables import parquet_bytes

Format = Literal["parquet", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
DICTIONARY = "columns.json"
# A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection"); ' itself, so that it can be undone.
_FORMULA = r"^[=+\-@\t\r\n＝＋－＠']"
_ESCAPED = (
    "a text that begins with = + - @ (also full-width), a tab, a line break or ' has a ' before it; drop one to undo"
)


def export(run: Path | str, out: Path | str, form: Format = "parquet", names: Sequence[str] = ()) -> list[Path]:
    """Write tables of a complete run to the folder `out`, one file each, and columns.json, which says what they hold.

    Args:
        run: the run's folder.
        out: a folder; it may hold other files, none of them of the names to be written.
        form: parquet; csv (UTF-8, texts quoted and made safe for spreadsheets, lists as JSON, undefined is empty);
            json (an array of objects, undefined is null).
        names: tables; none for all.

    Returns:
        The files written, columns.json last.

    Raises:
        RunError: no complete run, no such table, a damaged one, a file that is there already, or a write error.
    """
    if form not in FORMATS:
        raise RunError("format", expected=" or ".join(FORMATS), received=form)
    folder, out = RunFolder.read(run), Path(out)
    if out.exists() and not out.is_dir():
        raise RunError(out, expected="a folder", received="a file", do="choose another path with --out")
    chosen = _chosen(folder, names)
    files = [out / f"{name}.{form}" for name in chosen]
    for file in (*files, out / DICTIONARY):
        if file.exists():
            raise RunError(
                file, expected="a new file", received="one that is there", do="choose another folder with --out"
            )
    atomic.make_folder(out)
    described: dict[str, object] = {}
    measures = _measures(folder)
    for name, file in zip(chosen, files, strict=True):
        table = folder.read_table(name)
        atomic.write_bytes(file, encode(table, form))
        described[name] = _described(name, file, table, measures)
    rules = {"escaped": _ESCAPED} if form == "csv" else {}
    write_json(out / DICTIONARY, {"run": folder.identity, "format": form, **rules, "tables": described})
    return [*files, out / DICTIONARY]


def _chosen(folder: RunFolder, names: Sequence[str]) -> list[str]:
    there = sorted(Path(file).stem for file in folder.files if file.startswith("tables/"))
    if not there:
        raise RunError(folder.path, expected="a run with tables", received="none", do="audit it first")
    for name in names:
        if name not in there:
            raise RunError(folder.path, expected=f"a table of {', '.join(there)}", received=name)
    return list(dict.fromkeys(names)) or there


def encode(table: pl.DataFrame, form: Format) -> bytes:
    """Bytes of a table's file; nested columns become JSON and formulas are escaped in CSV."""
    if form == "parquet":
        return parquet_bytes(table.to_arrow())
    floats = pl.selectors.float()
    table = table.with_columns(pl.when(floats.is_finite()).then(floats).name.keep())
    if form == "json":
        return table.write_json().encode() + b"\n"
    table = table.with_columns(_as_json(column) for column in table.iter_columns() if column.dtype.is_nested())
    texts = pl.selectors.string()
    safe = pl.when(texts.str.contains(_FORMULA)).then(pl.lit("'") + texts).otherwise(texts).name.keep()
    return table.with_columns(safe).write_csv(quote_style="non_numeric").encode()


def _as_json(column: pl.Series) -> pl.Series:
    """Lists and records as JSON texts, which a cell can hold."""
    rows = (json.loads(line)[column.name] for line in column.to_frame().write_ndjson().splitlines())
    texts = [None if row is None else json.dumps(row, ensure_ascii=False) for row in rows]
    return pl.Series(column.name, texts, pl.String)


def _measures(folder: RunFolder) -> dict[str, str]:
    """Description of each measure of the run; empty for a run whose audit.json does not describe them."""
    listed = folder.read_json("audit.json").get("measures", []) if "audit.json" in folder.files else []
    return {measure["name"]: measure["description"] for measure in listed}  # type: ignore[attr-defined]


def _described(name: str, file: Path, table: pl.DataFrame, measures: Mapping[str, str]) -> dict[str, object]:
    known = name if name in TABLES else name.partition("_")[0]  # budget_4, scores_0_00000
    meanings = {**COLUMNS.get(known, {}), **measures}
    types = {field.name: str(field.type) for field in table.to_arrow().schema}
    columns = [{"name": c, "type": types[c], "meaning": meanings.get(c)} for c in table.columns]
    return {"file": file.name, "what": TABLES.get(known), "rows": len(table), "columns": columns}
