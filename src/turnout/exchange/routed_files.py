"""Routed-expert ids as inference servers return them, out of npy, npz, Parquet and JSONL files.

vLLM (`--enable-return-routed-experts`): `CompletionOutput.routed_experts`, a NumPy array [tokens, layers, K]; over HTTP
the same as base64 of its .npy bytes. SGLang (`return_routed_experts`): `meta_info["routed_experts"]`, base64 of int32
without a shape. Both have a row for every token that went through the model: prompt and answer, but the answer's last.

Shape suffixes: S samples, T tokens of one sample, L layers of the array, K experts chosen per token.
"""

import base64
import binascii
import codecs
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.errors import RunError

Shape = tuple[int, int]
ROUTED = "routed_experts"
_PER_SAMPLE = ("id", "subject", "domain", "answer", "prompt_tokens", "completion_tokens", "start")
_FORMS = ".npy, .npz, .parquet or .jsonl"


@dataclass(frozen=True, eq=False)
class Routed:
    """One sample's chosen experts as an array (not checked yet), its place in the file, and its other fields."""

    where: str
    experts: NDArray[Any]
    fields: Mapping[str, object] = field(default_factory=dict)


def read_routed(path: Path, shape: Shape | None = None) -> Iterator[Routed]:
    """The samples of a file, in order.

    - .npy: [T, L, K], one sample; [S, T, L, K], samples of one length.
    - .npz: `routed_experts` [ΣT, L, K] with `offsets` [S + 1], and beside it `id`, `subject`, `domain`, `answer`,
      `prompt_tokens` [S] and `tokens` [ΣT] where known; or an array [T, L, K] a sample, named by its id.
    - .parquet, .jsonl: a row a sample, `routed_experts` (or `meta_info.routed_experts`) being nested lists, base64 of
      .npy bytes, or, where `shape` is given, base64 of int32.

    Where `shape` is given, [T·L·K] may stand for [T, L, K] in every format.

    Args:
        path: the file.
        shape: (L, K) for what comes without its shape; what comes with one must have this.

    Raises:
        RunError: no such file, another format, a damaged one, pickled objects, another shape, or a row without experts.
    """
    readers: dict[str, Callable[[Path, Shape | None], Iterator[Routed]]] = {
        ".npy": _npy,
        ".npz": _npz,
        ".parquet": _rows,
        ".jsonl": _rows,
    }
    if path.suffix.lower() not in readers:
        raise RunError(path, expected=f"a file of routed experts: {_FORMS}", received=path.suffix or "no suffix")
    if not path.is_file():
        raise RunError(path, expected="a file of routed experts", received="no such file")
    return readers[path.suffix.lower()](path, shape)


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of a JSONL or Parquet file with its place; RunError names the row that cannot be read."""
    if not path.is_file():
        raise RunError(path, expected="a JSONL or Parquet file", received="no such file")
    return _parquet_records(path) if path.suffix.lower() == ".parquet" else _jsonl_records(path)


def _jsonl_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"line {number} of {path}"
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise RunError(where, expected="one JSON object", received=error) from error
            if not isinstance(value, dict):
                raise RunError(where, expected="one JSON object", received=type(value).__name__)
            yield where, value


def _parquet_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=16):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number} of {path}", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise RunError(path, expected="a Parquet file", received=error) from error


def _rows(path: Path, shape: Shape | None) -> Iterator[Routed]:
    for where, row in read_records(path):
        meta = row.get("meta_info")
        fields = {**meta, **row} if isinstance(meta, dict) else row
        value = fields.get(ROUTED)
        if value is None:
            raise RunError(where, expected=f"the column {ROUTED}", received=", ".join(sorted(row)) or "nothing")
        yield Routed(where, _shaped(_decoded(value, where), where, shape), fields)


def _decoded(value: object, where: str) -> NDArray[Any]:
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RunError(where, expected="routed experts in base64", received=error) from error
    if isinstance(value, bytes):
        if value.startswith(b"\x93NUMPY"):
            return _load(io.BytesIO(value), where)
        if len(value) % 4:
            raise RunError(where, expected="int32 numbers in base64", received=f"{len(value)} bytes")
        return np.frombuffer(value, "<i4")
    try:
        return np.array(value)
    except ValueError as error:
        raise RunError(where, expected="experts for each token and layer, as many in each", received=error) from error


def _shaped(array: NDArray[Any], where: str, shape: Shape | None) -> NDArray[Any]:
    """Numbers that came without their shape as [T, L, K]; others as they are, if they have the `shape` given."""
    if array.ndim != 1:
        if shape is not None and array.shape[-2:] != shape:
            expected = f"[tokens, {shape[0]} layers, {shape[1]} experts], as the shape given"
            raise RunError(where, expected=expected, received=list(array.shape))
        return array
    if shape is None:
        do = "say how many with --shape LAYERSxK"
        raise RunError(
            where, expected="layers and chosen experts", received=f"{len(array)} numbers without a shape", do=do
        )
    n_layers, k = shape
    if len(array) == 0 or len(array) % (n_layers * k):
        expected = f"a multiple of {n_layers} layers × {k} experts"
        raise RunError(where, expected=expected, received=f"{len(array)} numbers")
    return array.reshape(-1, n_layers, k)


def _npy(path: Path, shape: Shape | None) -> Iterator[Routed]:
    array = _shaped(_load(path, str(path)), str(path), shape)
    yield from _stacked(array, str(path))


def _stacked(array: NDArray[Any], where: str) -> Iterator[Routed]:
    if array.ndim == 4:
        yield from (Routed(f"sample {i} of {where}", experts) for i, experts in enumerate(array))
    else:
        yield Routed(where, array)


def _npz(path: Path, shape: Shape | None) -> Iterator[Routed]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if ROUTED not in archive.files:
                for name in archive.files:
                    where = f"{name} in {path}"
                    yield Routed(where, _shaped(archive[name], where, shape), {"id": name})
                return
            where = f"{ROUTED} in {path}"
            experts = _shaped(archive[ROUTED], where, shape)
            yield from _concatenated(experts, archive, path) if "offsets" in archive.files else _stacked(experts, where)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise RunError(path, expected="a .npz file of arrays of numbers", received=error) from error


def _concatenated(experts: NDArray[Any], archive: Any, path: Path) -> Iterator[Routed]:
    offsets = archive["offsets"]
    sound = offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) > 1 and experts.ndim > 0
    if not sound or offsets[0] != 0 or offsets[-1] != len(experts) or (np.diff(offsets.astype(np.int64)) < 1).any():
        expected = f"offsets that rise from 0 to the {len(experts) if experts.ndim else 0} tokens"
        raise RunError(f"offsets in {path}", expected=expected, received=offsets.tolist())
    n_samples = len(offsets) - 1
    columns = {name: archive[name] for name in _PER_SAMPLE if name in archive.files}
    for name, values in columns.items():
        if values.shape != (n_samples,):
            raise RunError(f"{name} in {path}", expected=f"one for each of {n_samples} samples", received=values.shape)
    tokens = archive["tokens"] if "tokens" in archive.files else None
    if tokens is not None and tokens.shape != (len(experts),):
        raise RunError(f"tokens in {path}", expected=f"one for each of {len(experts)} rows", received=tokens.shape)
    for i in range(n_samples):
        part = slice(int(offsets[i]), int(offsets[i + 1]))
        fields = {name: values[i].item() for name, values in columns.items()}
        own = {} if tokens is None else {"tokens": tokens[part].tolist()}
        yield Routed(f"sample {i} of {path}", experts[part], fields | own)


def _load(source: Path | io.BytesIO, where: str) -> NDArray[Any]:
    try:
        array = np.load(source, mmap_mode="r" if isinstance(source, Path) else None, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of several")
        return array
    except (OSError, ValueError, EOFError) as error:
        raise RunError(where, expected="an array of numbers in .npy form", received=error) from error
