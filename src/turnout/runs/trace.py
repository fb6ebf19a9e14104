"""The trace: what every router did with every sample, in Parquet shards that are written once and read by layer.

Shape suffixes: S samples, T tokens (all samples' together), E routed experts of a layer, K experts chosen per token.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.errors import RunError
from turnout.runs import atomic, shards
from turnout.runs.digest import sha256
from turnout.runs.layout import FLOAT_COLUMNS, SAMPLE_COLUMNS, TraceLayer
from turnout.runs.row_checks import check_rows, fixed, flat, list_lengths
from turnout.runs.shards import ShardEntry, TraceMeta
from turnout.runs.tables import frame, parquet_bytes

__all__ = ["Scope", "Trace", "TraceLayer", "TraceWriter"]

Scope = Literal["last", "all"]
_SHARD_ROW_GROUP = 1024


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


class TraceWriter:
    """Writes the shards 0 … n_shards − 1 of a trace, in any order, each whole or not at all.

    Args:
        folder: the run's `trace/`.
        layers: the MoE layers that each row holds.
        n_shards: how many shards the finished trace has.
        run: the run's identity (RunFolder.identity); stamped on each shard, so that a foreign one is known.
        warn: called with one line for each shard found damaged, missing or foreign.

    Raises:
        RunError: `folder` holds a trace of other layers, another number of shards or another run.
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
        except RunError as error:  # nothing is lost with it: each shard says itself whose it is
            self._warn(f"{error}; it will be written again")
            return self.meta.write(self.folder)
        if stored != self.meta:
            expected, received = f"a trace of {_describe(self.meta)}", f"one of {_describe(stored)}"
            raise RunError(self.folder, expected=expected, received=received, do="choose another folder with --out")
        return None

    def done(self) -> set[int]:
        """The shards that need no more work: listed in the index, present, and their digest holds.

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
        """Check `rows` (as `trace_rows.rows` makes them), write them as shard `i` and list it.

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


class Trace:
    """A finished trace. Each method reads only its own columns, shard by shard; rows come in the order of `index`."""

    def __init__(self, folder: Path, meta: TraceMeta, entries: Sequence[ShardEntry]) -> None:
        self.folder, self.meta = folder, meta
        self.layers = meta.layers
        self._files = [folder / e.file for e in sorted(entries, key=lambda e: e.shard)]
        self._by_number = {layer.layer: layer for layer in meta.layers}
        self._samples, self._places = self._read_samples()
        self._lengths_S = self._samples["n_tokens"].to_numpy().astype(np.int64)

    @property
    def scored(self) -> bool:
        """Whether every layer holds scores and weights; one that was imported holds the chosen experts only."""
        return all(layer.scored for layer in self.layers)

    @classmethod
    def open(cls, folder: Path | str, *, run: str | None = None) -> "Trace":
        """The trace in `folder` (of the run with identity `run`, if given), every shard's digest checked.

        Raises:
            RunError: not there, unfinished, or a shard is missing, damaged or foreign: named.
        """
        folder = Path(folder)
        meta = TraceMeta.read(folder)
        if run is not None and meta.run != run:
            raise RunError(
                folder / shards.META, expected=f"the trace of run {run[:12]}", received=f"run {meta.run[:12]}"
            )
        entries, _ = shards.read_index(folder)
        for entry in entries:
            received = shards.fault(folder, entry, meta)
            if received:
                do = "see turnout verify; an unfinished run computes it anew"
                raise RunError(folder / entry.file, expected="a sound shard of this trace", received=received, do=do)
        if len(entries) != meta.n_shards:
            raise RunError(folder, expected=f"{meta.n_shards} finished shards", received=len(entries), do=shards.RESUME)
        return cls(folder, meta, entries)

    def samples(self) -> pl.DataFrame:
        """One row a sample: index, id, subject, domain, answer, n_tokens, choice_logprobs; sorted by index."""
        return self._samples

    def scores(self, layer: int, scope: Scope = "last") -> NDArray[np.float32]:
        """The full router scores p, [S, E] float32: at the last token, or their mean over all the sample's tokens.

        RunError for a layer that is not scored; so with `weights`.
        """
        self._check_scored(layer)
        return self._fixed("scores", layer) if _is_last(scope) else self._mean("sum_scores", layer)

    def weights(self, layer: int, scope: Scope = "last") -> NDArray[np.float32]:
        """The weights that were applied, [S, E] float32, 0 where not chosen: last token, or mean over all tokens."""
        self._check_scored(layer)
        if not _is_last(scope):
            return self._mean("sum_weights", layer)
        chosen_SK, weights_SK = self._last_chosen(layer), self._fixed("weights", layer)
        return self._scatter(layer, chosen_SK, weights_SK)

    def frequency(self, layer: int, scope: Scope = "last") -> NDArray[np.float32]:
        """The share of tokens that chose each expert, [S, E] float32 (0 or 1 at the last token); K over a row."""
        if not _is_last(scope):
            return self._mean("counts", layer)
        chosen_SK = self._last_chosen(layer)
        return self._scatter(layer, chosen_SK, np.ones(chosen_SK.shape, np.float32))

    def inputs(self, layer: int) -> NDArray[np.float16] | None:
        """What the router was given at each sample's last token, [S, H] in half precision; None if not stored."""
        return self._fixed("inputs", layer) if self._layer(layer).hidden else None

    def chosen(self, layer: int) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        """The chosen experts of every token, [T, K], and where each sample starts in it, [S + 1]."""
        k = self._layer(layer).top_k
        ids, offsets = self._ragged(f"chosen_{layer}", self._lengths_S * k)
        return ids.reshape(-1, k), offsets // k

    def tokens(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Every sample's token ids, [T], and where each sample starts in it, [S + 1]."""
        return self._ragged("tokens", self._lengths_S)

    def _layer(self, layer: int) -> TraceLayer:
        if layer not in self._by_number:
            raise RunError(self.folder, expected=f"a layer of {sorted(self._by_number)}", received=layer)
        return self._by_number[layer]

    def _check_scored(self, layer: int) -> None:
        if not self._layer(layer).scored:
            raise RunError(f"{self.folder}, layer {layer}", expected="router scores", received="chosen experts only")

    def _read_samples(self) -> tuple[pl.DataFrame, list[NDArray[np.int64]]]:
        """The samples in index order, and for each shard the places of its rows in that order."""
        parts = [_sample_columns(file) for file in self._files]
        index_S = np.concatenate([np.zeros(0, np.int64), *(part["index"].to_numpy() for part in parts)])
        order = np.argsort(index_S, kind="stable")
        twice = index_S[order][1:][np.diff(index_S[order]) == 0]
        if len(twice):
            raise RunError(self.folder, expected="each sample once", received=f"sample {twice[0]} twice")
        place_S = np.empty(len(order), np.int64)
        place_S[order] = np.arange(len(order))
        places = np.split(place_S, np.cumsum([len(part) for part in parts])[:-1])
        return frame(pa.concat_tables(parts).take(pa.array(order))), places

    def _fixed(self, name: str, layer: int) -> NDArray[Any]:
        described = self._layer(layer)
        width = {"weights": described.top_k, "inputs": described.hidden}.get(name, described.experts)
        dtype = {"counts": np.uint32, "inputs": np.float16}.get(name, np.float32)
        out: NDArray[Any] = np.empty((len(self._lengths_S), width), dtype)
        for file, places in zip(self._files, self._places, strict=True):
            out[places] = fixed(_column(file, f"{name}_{layer}"))
        return out

    def _mean(self, name: str, layer: int) -> NDArray[np.float32]:
        sums_SE = self._fixed(name, layer)
        mean_SE = np.empty(sums_SE.shape, np.float32)
        np.divide(sums_SE, self._lengths_S[:, None], out=mean_SE, dtype=np.float64, casting="same_kind")
        return mean_SE

    def _last_chosen(self, layer: int) -> NDArray[np.int64]:
        k = self._layer(layer).top_k
        out = np.empty((len(self._lengths_S), k), np.int64)
        for file, places in zip(self._files, self._places, strict=True):
            column = _column(file, f"chosen_{layer}")
            ends = np.cumsum(list_lengths(column))
            out[places] = flat(column)[ends[:, None] + np.arange(-k, 0)]
        return out

    def _scatter(self, layer: int, at_SK: NDArray[np.int64], of_SK: NDArray[np.float32]) -> NDArray[np.float32]:
        out = np.zeros((len(at_SK), self._layer(layer).experts), np.float32)
        np.add.at(out, (np.arange(len(at_SK))[:, None], at_SK), of_SK)
        return out

    def _ragged(self, name: str, lengths_S: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """A list column's values in index order, and the offsets [S + 1]."""
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_S)])
        out: NDArray[Any] = np.zeros(0, np.int32)
        for file, places in zip(self._files, self._places, strict=True):
            values, sizes = flat(_column(file, name)), lengths_S[places]
            if len(out) != offsets[-1] or out.dtype != values.dtype:  # the first shard tells the type
                out = np.empty(offsets[-1], values.dtype)
            shift = np.repeat(offsets[places] - (np.cumsum(sizes) - sizes), sizes)
            out[shift + np.arange(len(values))] = values
        return out, offsets


def _shard_bytes(rows: pa.Table, meta: TraceMeta, i: int) -> bytes:
    floats = [f"{name}_{layer.layer}" for layer in meta.layers if layer.scored for name in FLOAT_COLUMNS]
    return parquet_bytes(shards.stamp(rows, meta, i), split=floats, row_group=_SHARD_ROW_GROUP)


def _columns(file: Path, names: Sequence[str]) -> pa.Table:
    try:
        with pq.ParquetFile(file) as parquet:
            return parquet.read(columns=list(names))
    except (OSError, pa.ArrowException) as error:
        raise RunError(file, expected="a shard that can be read", received=error) from error


def _column(file: Path, name: str) -> pa.ChunkedArray:
    return _columns(file, [name])[name]


def _sample_columns(file: Path) -> pa.Table:
    """The samples' own columns, with the number of tokens in the place of the tokens."""
    table = _columns(file, SAMPLE_COLUMNS)
    lengths = pa.array(list_lengths(table["tokens"]))
    table = table.append_column("n_tokens", lengths)
    return table.select(["index", "id", "subject", "domain", "answer", "n_tokens", "choice_logprobs"])


def _is_last(scope: Scope) -> bool:
    if scope not in ("last", "all"):
        raise RunError("scope", expected="last or all", received=scope)
    return scope == "last"


def _describe(meta: TraceMeta) -> str:
    experts = sorted({(layer.experts, layer.top_k) for layer in meta.layers})
    numbers = [layer.layer for layer in meta.layers]
    return f"layers {numbers} with (experts, top-k) {experts} in {meta.n_shards} shards of run {meta.run[:12]}"
