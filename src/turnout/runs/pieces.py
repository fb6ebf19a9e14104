"""Pieces of unfinished work: tables that are written once, and read instead of computed again after a kill."""

import hashlib
from collections.abc import Callable

import polars as pl
import pyarrow as pa

from turnout.errors import RunError
from turnout.runs.folder import RunFolder

_DIGEST = b"turnout"


def write_piece(run: RunFolder, name: str, table: pa.Table) -> None:
    """Write tables/NAME.parquet with a digest of its rows, its name and its run."""
    run.write_table(name, table.replace_schema_metadata({_DIGEST: _sha256(run, name, table).encode()}))


def read_piece(run: RunFolder, name: str, schema: pa.Schema, note: Callable[[str], None]) -> pa.Table | None:
    """The stored piece, or None; a damaged piece, or one of another run, is reported through `note`."""
    path = run.path / "tables" / f"{name}.parquet"
    if not path.exists():
        return None
    try:
        table = run.read_table(name).to_arrow().cast(schema)
        with path.open("rb") as file:
            digest = pl.read_parquet_metadata(file).get(_DIGEST.decode())
    except (RunError, pa.ArrowException, ValueError) as error:
        note(f"{path}: cannot be read ({error}); it will be computed again")
        return None
    if digest != _sha256(run, name, table):
        note(f"{path}: not the rows that this run wrote (damaged, or of another run); it will be computed again")
        return None
    return table


def _sha256(run: RunFolder, piece: str, table: pa.Table) -> str:
    sha = hashlib.sha256(f"{run.identity} {piece} ".encode())
    for name in table.column_names:
        sha.update(f"{name} {table[name].type}".encode())
        sha.update(repr(table[name].to_pylist()).encode())
    return sha.hexdigest()
