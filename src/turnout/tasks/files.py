"""Read rows from files: JSONL, Parquet, and MMLU's original CSV."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.errors import TaskError
from turnout.tasks.rows import Row

_PARQUET_MAGIC = b"PAR1"
_CSV_CELLS = 6
_REQUIRED = ({"question", "choices"}, {"text"})


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSONL or Parquet file, told apart by the first bytes.

    Raises:
        TaskError: the file cannot be read, or a line is not UTF-8, not JSON or not an object; names the line.
    """
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == _PARQUET_MAGIC
    except OSError as e:
        raise TaskError(path, expected="a file of questions", received=e.strerror or e) from e
    return _parquet(path) if parquet or path.suffix.lower() == ".parquet" else _jsonl(path)


def read_csv(path: Path, subject: str) -> Iterator[Row]:
    """The rows of one of MMLU's original CSV files: no header; question, choices, answer letter.

    Raises:
        TaskError: the file is not UTF-8 or not CSV, or a row has other than six cells (such as an unquoted comma).
    """
    reader = csv.reader(io.StringIO(_decode(path), newline=""), strict=True)
    try:
        for number, cells in enumerate(reader):
            where = f"row {number + 1} of {path}"
            if len(cells) != _CSV_CELLS:
                expected = (
                    f"{_CSV_CELLS} cells: question, choices A to D and answer letter, without a header or an index"
                )
                raise TaskError(where, expected=expected, received=f"{len(cells)} cells")
            question, *choices, answer = cells
            yield Row(where, {"question": question, "choices": choices, "answer": answer, "subject": subject})
    except csv.Error as e:
        raise TaskError(f"line {reader.line_num} of {path}", expected="CSV", received=e) from e


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as e:
        raise TaskError(path, expected="a file of questions", received=e.strerror or e) from e
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise TaskError(f"line {line} of {path}", expected="UTF-8", received=f"byte 0x{data[e.start]:02x}") from e


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"line {number} of {path}"
            if fields := _object(where, line):
                yield Row(where, fields)


def _object(where: str, line: bytes) -> dict[str, object] | None:
    """The JSON object on a line; None for an empty line."""
    try:
        text = line.decode("utf-8-sig").strip()
        value = json.loads(text) if text else None
    except UnicodeDecodeError as e:
        raise TaskError(where, expected="UTF-8", received=f"byte 0x{line[e.start]:02x}") from e
    except (ValueError, RecursionError) as e:
        raise TaskError(where, expected="one JSON object", received=f"{text[:40]!r} ({e})") from e
    if not text:
        return None
    if not isinstance(value, dict) or not value:
        raise TaskError(where, expected="one JSON object with a question", received=text[:40])
    return value


def _parquet(path: Path) -> Iterator[Row]:
    number = 0
    try:
        file = pq.ParquetFile(path)
        columns = [
            f
            for f in file.schema_arrow.names
            if f in ("id", "question", "choices", "text", "answer", "subject", "domain")
        ]
        if not any(required <= set(columns) for required in _REQUIRED):
            received = ", ".join(file.schema_arrow.names) or "none"
            raise TaskError(path, expected="the columns question and choices, or text", received=received)
        for batch in file.iter_batches(batch_size=4096, columns=columns):
            for fields in batch.to_pylist():
                number += 1
                yield Row(f"row {number} of {path}", fields)
    except UnicodeDecodeError as e:
        raise TaskError(f"row {number + 1} or later of {path}", expected="UTF-8", received=e.reason) from e
    except (pa.ArrowException, OSError) as e:
        raise TaskError(path, expected="a Parquet file of questions", received=e) from e
