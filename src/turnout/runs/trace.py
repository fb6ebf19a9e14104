"""A finished trace, read layer by layer: the routing of every sample, in Parquet shards.

Shape suffixes: S samples, T tokens (all samples' together), E routed experts of a layer, K experts chosen per token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.errors import RunError
from turnout.runs import shards
from turnout.runs.layout import SAMPLE_COLUMNS, TraceLayer
from turnout.runs.rows import fixed, flat, list_lengths
from turnout.runs.shards import ShardEntry, TraceMeta
from turnout.runs.tables import frame

Scope = Literal["last", "all"]


class Trace:
    """A finished trace. Each method reads only its own columns, shard by shard; rows are in the order of `index`."""

    def __init__(self, folder: Path, meta: TraceMeta, entries: Sequence[ShardEntry]) -> None:
        self.folder, self.meta = folder, meta
        self.layers = meta.layers
        self._files = [folder / e.file for e in sorted(entries, key=lambda e: e.shard)]
        self._by_number = {layer.layer: layer for layer in meta.layers}
        self._samples, self._places = self._read_samples()
        self._lengths_S = self._samples["n_tokens"].to_numpy().astype(np.int64)

    @property
    def scored(self) -> bool:
        """Whether every layer has scores and weights; an imported one has the chosen experts only."""
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
                do = "see turnout verify; an unfinished run computes it again"
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
        """The applied weights, [S, E] float32, 0 where not chosen: last token, or mean over all tokens."""
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
        """The router's inputs at each sample's last token, [S, H] in half precision; None if not stored."""
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
            if len(out) != offsets[-1] or out.dtype != values.dtype:  # the dtype is that of the first shard
                out = np.empty(offsets[-1], values.dtype)
            shift = np.repeat(offsets[places] - (np.cumsum(sizes) - sizes), sizes)
            out[shift + np.arange(len(values))] = values
        return out, offsets


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
