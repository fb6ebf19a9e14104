"""Parquet tables whose bytes depend on the rows alone, and pieces of unfinished work in such tables."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.errors import RunError

if TYPE_CHECKING:
    from turnout.runs.folder import RunFolder


ROW_GROUP = 1 << 16


def parquet_bytes(table: pa.Table, *, split: Sequence[str] = (), row_group: int = ROW_GROUP) -> bytes:
    """`table` as Parquet (zstd): the same bytes for the same rows, however they are chunked.

    `split` names columns of lists of floats, which hardly repeat: no dictionary, their bytes split, which compresses
    better.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(),
        sink,
        compression="zstd",
        compression_level=3,
        row_group_size=row_group,
        use_dictionary=[_leaf(field) for field in table.schema if field.name not in split] if split else True,
        use_byte_stream_split=[_leaf(table.schema.field(name)) for name in split],
    )
    return sink.getvalue().to_pybytes()


def _leaf(field: pa.Field) -> str:
    """The name that Parquet gives to the values of a column, or of a column of lists."""
    is_list = pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
    return f"{field.name}.list.element" if is_list else field.name


def frame(table: pa.Table) -> pl.DataFrame:
    """`table` as a polars DataFrame."""
    result = pl.from_arrow(table)
    assert isinstance(result, pl.DataFrame)
    return result


_DIGEST = b"turnout"


def write_piece(run: "RunFolder", name: str, table: pa.Table) -> None:
    """Write tables/NAME.parquet with a digest of its rows, its name and its run."""
    run.write_table(name, table.replace_schema_metadata({_DIGEST: _sha256(run, name, table).encode()}))


def read_piece(run: "RunFolder", name: str, schema: pa.Schema, note: Callable[[str], None]) -> pa.Table | None:
    """The stored piece, or None; a damaged piece, or one of another run, is reported through `note`."""
    path = run.path / "tables" / f"{name}.parquet"
    if not path.exists():
        return None
    try:
        table = run.read_table(name).to_arrow().cast(schema)
        digest = pl.read_parquet_metadata(path).get(_DIGEST.decode())
    except (RunError, pa.ArrowException, ValueError) as error:
        note(f"{path}: cannot be read ({error}); it will be computed again")
        return None
    if digest != _sha256(run, name, table):
        note(f"{path}: not the rows that this run wrote (damaged, or of another run); it will be computed again")
        return None
    return table


def _sha256(run: "RunFolder", piece: str, table: pa.Table) -> str:
    sha = hashlib.sha256(f"{run.identity} {piece} ".encode())
    for name in table.column_names:
        sha.update(f"{name} {table[name].type}".encode())
        sha.update(repr(table[name].to_pylist()).encode())
    return sha.hexdigest()
