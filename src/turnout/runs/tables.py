"""Parquet tables whose bytes depend on the rows alone."""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

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
