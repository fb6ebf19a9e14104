"""Writer of a trace: shards that are written once, in any order, each whole or not at all."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from turnout.errors import RunError
from turnout.runs import atomic, shards
from turnout.runs.json_files import sha256
from turnout.runs.layout import FLOAT_COLUMNS, TraceLayer
from turnout.runs.rows import check_rows, list_lengths
from turnout.runs.shards import ShardEntry, TraceMeta
from turnout.runs.tables import parquet_bytes

_SHARD_ROW_GROUP = 1024


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


class TraceWriter:
    """Writes the shards 0 … n_shards − 1 of a trace, in any order, each whole or not at all.

    Args:
        folder: the run's `trace/`.
        layers: the MoE layers in each row.
        n_shards: how many shards the finished trace has.
        run: the run's identity (RunFolder.identity); stamped on each shard, so that a foreign one is known.
        warn: called with one line for each shard found damaged, missing or foreign.

    Raises:
        RunError: `folder` contains a trace of other layers, another number of shards or another run.
    """

    def __init__(
        self,
        folder: Path,
        layers: Sequence[TraceLayer],
        n_shards: int,
        *,
        run: str = "",
        warn: Callable[[str], None] = _warn,
    ) -> None:
        self.folder, self.meta, self._warn = Path(folder), TraceMeta(run, tuple(layers), n_shards), warn
        atomic.make_folder(self.folder)
        if not (self.folder / shards.META).exists():
            self.meta.write(self.folder)
        else:
            self._check_meta()
        self._listed: dict[int, ShardEntry] | None = None

    def _check_meta(self) -> None:
        try:
            stored = TraceMeta.read(self.folder)
        except RunError as error:  # nothing is lost: each shard is stamped with its run
            self._warn(f"{error}; it will be written again")
            return self.meta.write(self.folder)
        if stored != self.meta:
            expected, received = f"a trace of {_describe(self.meta)}", f"one of {_describe(stored)}"
            raise RunError(self.folder, expected=expected, received=received, do="choose another folder with --out")
        return None

    def done(self) -> set[int]:
        """The finished shards: listed in the index, present, with the right digest.

        One that is damaged, missing or foreign is named to `warn` and struck from the index, to be written again.
        """
        entries, torn = shards.read_index(self.folder)
        faults = {entry.shard: shards.fault(self.folder, entry, self.meta) for entry in entries}
        for entry in entries:
            if faults[entry.shard]:
                self._warn(f"{self.folder / entry.file}: {faults[entry.shard]}; it will be computed again")
        sound = [entry for entry in entries if not faults[entry.shard]]
        if torn or len(sound) < len(entries):
            shards.write_index(self.folder, sound)
        self._listed = {entry.shard: entry for entry in sound}
        return set(self._listed)

    def write(self, i: int, rows: pa.Table, *, seconds: float = 0.0) -> None:
        """Check `rows` (from `rows.rows`), write them as shard `i` and list it.

        Args:
            i: the shard's number, 0 … n_shards − 1.
            rows: one row a sample, the columns of `layout.trace_schema`.
            seconds: the time that its forward passes took, for the manifest's timings.

        Raises:
            RunError: rows that do not fit the layers or are miscounted; a write error. Nothing half-written stays.
        """
        if self._listed is None:
            self.done()
        assert self._listed is not None
        assert 0 <= i < self.meta.n_shards, f"shard {i} of {self.meta.n_shards}"
        path = self.folder / shards.shard_name(i)
        check_rows(rows, self.meta.layers, path.name)
        atomic.write_bytes(path, _shard_bytes(rows, self.meta, i))
        tokens = int(list_lengths(rows["tokens"]).sum())
        entry = ShardEntry(i, path.name, sha256(path), len(rows), tokens, round(seconds, 6))
        if i in self._listed:
            shards.write_index(self.folder, [*(e for e in self._listed.values() if e.shard != i), entry])
        else:
            shards.append_index(self.folder, entry)
        self._listed[i] = entry

    def totals(self) -> tuple[int, float]:
        """Tokens and seconds over the shards listed, whichever process wrote them."""
        entries, _ = shards.read_index(self.folder)
        return sum(e.tokens for e in entries), sum(e.seconds for e in entries)


def _shard_bytes(rows: pa.Table, meta: TraceMeta, i: int) -> bytes:
    floats = [f"{name}_{layer.layer}" for layer in meta.layers if layer.scored for name in FLOAT_COLUMNS]
    return parquet_bytes(shards.stamp(rows, meta, i), split=floats, row_group=_SHARD_ROW_GROUP)


def _describe(meta: TraceMeta) -> str:
    experts = sorted({(layer.experts, layer.top_k) for layer in meta.layers})
    numbers = [layer.layer for layer in meta.layers]
    return f"layers {numbers} with (experts, top-k) {experts} in {meta.n_shards} shards of run {meta.run[:12]}"
