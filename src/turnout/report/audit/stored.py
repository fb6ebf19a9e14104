"""A finished audit read from its folder: audit.json, manifest and tables, checked, as NumPy arrays.

Shapes: L MoE layers, E experts of the widest layer, D domains. A layer with fewer experts has NaN beyond them.
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
from turnout.report.audit.measures import Measure, measures_of
from turnout.report.kit.page import read_content
from turnout.runs import RunFolder

KINDS = ("gate", "frequency", "weight", "released")
_AUDIT, _MASKING = "audit.json", "masking.json"
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

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StoredRun:
    """Content of a finished audit.

    Attributes:
        path: the run's folder.
        audit: content of audit.json.
        manifest: content of manifest.json.
        tables: each table by name, as a Polars frame.
        masking: content of masking.json of each masking run of this audit.
    """

    path: Path
    audit: dict[str, Any]
    manifest: dict[str, Any]
    tables: dict[str, pl.DataFrame]
    masking: tuple[dict[str, Any], ...] = ()

    @cached_property
    def measures(self) -> list[Measure]:
        """The measures of the run, in the order in which they are shown."""
        return measures_of(self.audit)

    def measure(self, name: str) -> Measure:
        """One measure by name."""
        return next(measure for measure in self.measures if measure.name == name)

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
        """Names of the domains with samples, in the domain map's order."""
        present = set(self.tables["contribution"]["domain"])
        return [name for name in self.audit["tasks"]["domains"] if name in present]

    @cached_property
    def kept(self) -> list[int]:
        """Indices in `domains` of the domains from which the measures are computed: all but the dropped ones."""
        return [place for place, name in enumerate(self.domains) if name not in self.audit["dropped_domains"]]

    @cached_property
    def widest(self) -> int:
        """Number of experts of the layer with most routed experts."""
        return max(layer["experts"] for layer in self.layers)

    @cached_property
    def kinds(self) -> list[str]:
        """The kinds of contribution in the run: all four, or frequency alone where chosen experts were imported."""
        table = self.tables["contribution"]
        return [kind for kind in KINDS if table[kind].null_count() < len(table)]

    def contribution(self, kind: str) -> Floats:
        """One kind of contribution of each expert in each domain, [D, L, E]; NaN where a layer has no such expert."""
        return self._cube("contribution", kind)

    def mean_contribution(self, kind: str) -> Floats:
        """Mean of `contribution` over the kept domains, [L, E]."""
        return self.contribution(kind)[self.kept].mean(axis=0)

    @cached_property
    def ranks(self) -> Floats:
        """Ranks in each domain, [D, L, E], 1…K and K+1; NaN in a dropped domain or where there is no such expert."""
        return self._cube("ranks", "rank")

    def contribution_bound(self, end: str, kind: str) -> Floats:
        """The "low" or "high" end of the contributions' 95 % intervals, [D, L, E]; NaN for kinds not audited."""
        if kind != self.audit["kind"] or end not in self.tables["contribution"].columns:
            return np.full((len(self.domains), len(self.layers), self.widest), np.nan)
        return self._cube("contribution", end)

    def expert_column(self, column: str) -> Floats:
        """One column of the experts table, [L, E]; NaN where undefined or where a layer has no such expert."""
        table = self.tables["experts"]
        grid = np.full((len(self.layers), self.widest), np.nan)
        if column not in table.columns:  # a run from before experts had a stability
            return grid
        grid[self.layer_rows(table), table["expert"].to_numpy()] = table[column].cast(pl.Float64).to_numpy()
        return grid

    @cached_property
    def jaccard(self) -> Floats:
        """Jaccard overlap of each two domains' first-K sets, [L, D, D]; NaN for a dropped domain."""
        table = self.tables["jaccard"]
        a, b = self._domain_index(table["domain_a"]), self._domain_index(table["domain_b"])
        matrix = np.full((len(self.layers), len(self.domains), len(self.domains)), np.nan)
        matrix[self.layer_rows(table), a, b] = table["jaccard"].to_numpy()
        return matrix

    def layer_rows(self, table: pl.DataFrame) -> NDArray[np.int64]:
        """The layer of each row of `table`, as a position in `layers`."""
        return _positions(table["layer"], self.layer_numbers)

    def _cube(self, name: str, column: str) -> Floats:
        table = self.tables[name]
        cube = np.full((len(self.domains), len(self.layers), self.widest), np.nan)
        at = self._domain_index(table["domain"]), self.layer_rows(table), table["expert"].to_numpy()
        cube[at] = table[column].cast(pl.Float64).to_numpy()
        return cube

    def _domain_index(self, column: pl.Series) -> NDArray[np.int64]:
        return _positions(column, self.domains)


def _positions(column: pl.Series, order: list[Any]) -> NDArray[np.int64]:
    """Position in `order` of each entry of `column`."""
    names = column.unique()
    place = {value: position for position, value in enumerate(order)}
    if unknown := [name for name in names if name not in place]:
        where, do = f"column {column.name}", "see `turnout verify`"
        raise RunError(where, expected="a value that audit.json names", received=unknown[0], do=do)
    places = column.replace_strict(names, [place[name] for name in names], return_dtype=pl.Int64)
    return places.to_numpy().astype(np.int64)  # the array of an empty column has no integer type


def read_run(path: str | Path, masking: Sequence[str | Path] | None = None) -> StoredRun:
    """Read a finished run's folder; the digest of each file is checked.

    Args:
        path: the run's folder.
        masking: masking runs of this audit; None: those beside it, by the names that `turnout mask` gives them.

    Raises:
        RunError: the run is unfinished or not an audit; audit.json or a table is missing, damaged or of another
            schema; or a masking run in `masking` is of another audit.
    """
    folder = RunFolder.read(path)
    if folder.files and _AUDIT not in folder.files:
        raise RunError(folder.path, expected="an audit", received=f"a run of turnout {folder.inputs.get('verb')}")
    audit = read_content(folder, _AUDIT, "an audit")
    tables = {name: _read_table(folder, name, columns) for name, columns in _COLUMNS.items()}
    stored = {name for name in _OPTIONAL if (folder.path / "tables" / f"{name}.parquet").is_file()}
    tables |= {name: _read_table(folder, name, columns) for name, columns in _OPTIONAL.items() if name in stored}
    return StoredRun(folder.path, audit, folder.manifest, tables, _read_masking(folder, masking))


def masking_runs(path: str | Path) -> list[Path]:
    """Finished masking runs beside a run, by the names that `turnout mask` gives them, sorted.

    Folders of such a name that mask another audit are left out.
    """
    folder = RunFolder.read(path)
    own = folder.path.resolve()
    paths = sorted(own.parent.glob(f"{glob.escape(own.name)}-mask-*"))
    finished = [path for path in paths if all((path / name).is_file() for name in ("manifest.json", _MASKING))]
    return [path for path in finished if RunFolder.read(path).read_json(_MASKING).get("audit") == folder.identity]


def _read_masking(folder: RunFolder, paths: Sequence[str | Path] | None) -> tuple[dict[str, Any], ...]:
    """Contents of masking.json of the masking runs in `paths`, or of those beside the run."""
    contents = []
    for path in masking_runs(folder.path) if paths is None else paths:
        contents.append(RunFolder.read(path).read_json(_MASKING))
        if contents[-1].get("audit") != folder.identity:
            raise RunError(path, expected=f"a masking run of {folder.path}", received="one of another audit")
    return tuple(contents)


def _read_table(folder: RunFolder, name: str, columns: set[str]) -> pl.DataFrame:
    table = folder.read_table(name)
    if missing := sorted(columns - set(table.columns)):
        where = folder.path / "tables" / f"{name}.parquet"
        raise RunError(where, expected=f"columns {', '.join(missing)}", received=", ".join(table.columns))
    return table
