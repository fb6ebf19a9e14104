"""A finished run as the page needs it: audit.json, the manifest and the tables, checked, as NumPy arrays.

Shape suffixes: L MoE layers, E experts of the widest layer, D domains. Where a layer has fewer experts its row is NaN
beyond them.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from turnout.errors import RunError
from turnout.runs import RunFolder

KINDS = ("gate", "frequency", "weight", "released")
SCHEMA = 1
_COLUMNS = {
    "contribution": {"layer", "domain", "expert", *KINDS},
    "ranks": {"layer", "domain", "expert", "rank"},
    "experts": {"layer", "expert", "mean_rank", "rank_variance", "presence", "candidate", "member", "share"},
    "jaccard": {"layer", "domain_a", "domain_b", "jaccard"},
    "lorenz": {"layer", "position", "share"},
}
_OPTIONAL = {
    "tokens": {"token", "text", "class", "count"},
    "token_layers": {"layer", "token", "count", "rate", "committee_domains", "periphery_domains", "invariant"},
    "token_classes": {"layer", "class", "count", "committee", "periphery"},
    "atlas_tokens": {"layer", "expert", "by", "rank", "token", "count", "z"},
    "atlas_partners": {"layer", "expert", "relation", "rank", "partner_layer", "partner", "lift"},
    "budgets": {"layer", "k", "mode", "committee", "fallback", "coverage", "influence_ratio", "retention"},
}
_MASKING = "masking.json"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StoredRun:
    """One run's audit (audit.json), manifest and tables (`tables[name]` a Polars frame).

    `masking` holds the masking.json of each masking run of this audit.
    """

    path: Path
    audit: dict[str, Any]
    manifest: dict[str, Any]
    tables: dict[str, pl.DataFrame]
    masking: tuple[dict[str, Any], ...] = ()

    @cached_property
    def layers(self) -> list[dict[str, Any]]:
        """audit.json's layers, in order of depth."""
        return self.audit["layers"]

    @cached_property
    def layer_numbers(self) -> list[int]:
        """The decoder layers' own numbers, in order of depth."""
        return [layer["layer"] for layer in self.layers]

    @cached_property
    def domains(self) -> list[str]:
        """Names of the domains that were asked about, in the map's order."""
        asked = set(self.tables["contribution"]["domain"])
        return [name for name in self.audit["tasks"]["domains"] if name in asked]

    @cached_property
    def kept(self) -> list[int]:
        """Places in `domains` of those that the figures rest on: all but the dropped ones."""
        return [place for place, name in enumerate(self.domains) if name not in self.audit["dropped_domains"]]

    @cached_property
    def widest(self) -> int:
        """E of the layer with most routed experts."""
        return max(layer["experts"] for layer in self.layers)

    @cached_property
    def kinds(self) -> list[str]:
        """The readings of contribution that the run has: all four, or frequency alone for chosen experts imported."""
        table = self.tables["contribution"]
        return [kind for kind in KINDS if table[kind].null_count() < len(table)]

    def contribution(self, kind: str) -> Floats:
        """One `kind` of contribution, every expert in every domain, [D, L, E]; NaN where a layer has no such expert."""
        return self._cube("contribution", kind)

    def mean_contribution(self, kind: str) -> Floats:
        """Its mean over the kept domains, [L, E]."""
        return self.contribution(kind)[self.kept].mean(axis=0)

    @cached_property
    def ranks(self) -> Floats:
        """Ranks in every domain, [D, L, E], 1…K and K+1; NaN in a dropped domain or where there is no such expert."""
        return self._cube("ranks", "rank")

    def contribution_bound(self, end: str, kind: str) -> Floats:
        """The low or high end of the contributions' 95 % intervals, [D, L, E]; NaN for other kinds than the audit's."""
        if kind != self.audit["kind"] or end not in self.tables["contribution"].columns:
            return np.full((len(self.domains), len(self.layers), self.widest), np.nan)
        return self._cube("contribution", end)

    def expert_column(self, column: str) -> Floats:
        """One column of the experts table, [L, E]; NaN where it is undefined, unknown or a layer has no such expert."""
        table = self.tables["experts"]
        grid = np.full((len(self.layers), self.widest), np.nan)
        if column not in table.columns:  # a run from before experts had a stability
            return grid
        grid[self.layer_rows(table), table["expert"].to_numpy()] = table[column].cast(pl.Float64).to_numpy()
        return grid

    @cached_property
    def jaccard(self) -> Floats:
        """Jaccard overlap of every two domains' first-K sets, [L, D, D]; NaN for a dropped domain."""
        table = self.tables["jaccard"]
        a, b = self._domain_index(table["domain_a"]), self._domain_index(table["domain_b"])
        matrix = np.full((len(self.layers), len(self.domains), len(self.domains)), np.nan)
        matrix[self.layer_rows(table), a, b] = table["jaccard"].to_numpy()
        return matrix

    def _cube(self, name: str, column: str) -> Floats:
        table = self.tables[name]
        cube = np.full((len(self.domains), len(self.layers), self.widest), np.nan)
        at = self._domain_index(table["domain"]), self.layer_rows(table), table["expert"].to_numpy()
        cube[at] = table[column].cast(pl.Float64).to_numpy()
        return cube

    def layer_rows(self, table: pl.DataFrame) -> NDArray[np.int64]:
        """Each row's layer as a position in `layers`."""
        return _index(table["layer"], self.layer_numbers)

    def _domain_index(self, column: pl.Series) -> NDArray[np.int64]:
        return _index(column, self.domains)


def _index(column: pl.Series, order: list[Any]) -> NDArray[np.int64]:
    """Position of each entry of `column` in `order`."""
    names = column.unique()
    place = {value: position for position, value in enumerate(order)}
    if strangers := [name for name in names if name not in place]:
        raise RunError(
            f"column {column.name}", expected="what audit.json names", received=strangers[0], do="see `turnout verify`"
        )
    places = column.replace_strict(names, [place[name] for name in names], return_dtype=pl.Int64)
    return places.to_numpy().astype(np.int64)  # an empty column comes back without a type


def read_run(path: str | Path, masking: Sequence[str | Path] | None = None) -> StoredRun:
    """Read a finished run's folder; every file's digest is checked.

    Args:
        path: the run's folder.
        masking: masking runs of this audit; None: those that lie beside it, as `turnout mask` names them.

    Raises:
        RunError: the folder is no finished run, or audit.json or a table is missing, damaged or of another schema; or
            a masking run that is named is of another audit.
    """
    folder = RunFolder.read(path)
    if folder.files and "audit.json" not in folder.files:
        raise RunError(folder.path, expected="an audit", received=f"a run of turnout {folder.inputs.get('verb')}")
    audit = folder.read_json("audit.json")
    if audit.get("schema") != SCHEMA:
        raise RunError(folder.path / "audit.json", expected=f"schema {SCHEMA}", received=audit.get("schema"))
    tables = {name: _read_table(folder, name, columns) for name, columns in _COLUMNS.items()}
    there = {name for name in _OPTIONAL if (folder.path / "tables" / f"{name}.parquet").is_file()}
    tables |= {name: _read_table(folder, name, columns) for name, columns in _OPTIONAL.items() if name in there}
    return StoredRun(folder.path, audit, folder.manifest, tables, _maskings(folder, masking))


def masking_runs(path: str | Path) -> list[Path]:
    """The complete masking runs of a run that lie beside it, as `turnout mask` names them, in order of name.

    What is beside it under such a name and masks another audit is passed over.
    """
    folder = RunFolder.read(path)
    beside = folder.path.resolve()
    paths = sorted(beside.parent.glob(f"{glob.escape(beside.name)}-mask-*"))
    complete = [path for path in paths if all((path / name).is_file() for name in ("manifest.json", _MASKING))]
    return [path for path in complete if RunFolder.read(path).read_json(_MASKING).get("audit") == folder.identity]


def _maskings(folder: RunFolder, named: Sequence[str | Path] | None) -> tuple[dict[str, Any], ...]:
    """What masking runs of this audit found."""
    found = []
    for path in masking_runs(folder.path) if named is None else named:
        found.append(RunFolder.read(path).read_json(_MASKING))
        if found[-1].get("audit") != folder.identity:
            raise RunError(path, expected=f"masking of {folder.path}", received="that of another audit")
    return tuple(found)


def _read_table(folder: RunFolder, name: str, columns: set[str]) -> pl.DataFrame:
    table = folder.read_table(name)
    if missing := sorted(columns - set(table.columns)):
        where = folder.path / "tables" / f"{name}.parquet"
        raise RunError(where, expected=f"columns {', '.join(missing)}", received=", ".join(table.columns))
    return table
