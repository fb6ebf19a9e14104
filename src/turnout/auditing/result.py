"""Result of an audit: audit.json as an object."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Self

import polars as pl

from turnout.auditing.figures import SCHEMA, LayerAudit
from turnout.auditing.measures import MEASURES
from turnout.errors import RunError
from turnout.runs.result import Result

AUDIT_FILE = "audit.json"
_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "layer": pl.Int64,
    "experts": pl.Int64,
    "top_k": pl.Int64,
    "shared": pl.Int64,
    "committee": pl.List(pl.Int64),
    "candidates": pl.List(pl.Int64),
    "fallback": pl.Boolean,
}


class Audit(Result):
    """An audit's result. Layers and summaries are plain dicts, keyed as in audit.json; an undefined figure is None."""

    FILE, VERB, SCHEMA = AUDIT_FILE, "audit", SCHEMA

    @property
    def layers(self) -> tuple[LayerAudit, ...]:
        """One dict a MoE layer, in order of depth."""
        return tuple(self._content["layers"])

    @property
    def overall(self) -> dict[str, dict[str, float | int | None]]:
        """Mean, min and max over layers of each measure."""
        return self._content["overall"]

    @property
    def overall_without(self) -> dict[str, dict[str, dict[str, float | int | None]]]:
        """`overall` again without the questions of each domain whose reading is Turnout's own (Lang-Ling)."""
        return self._content["overall_without"]

    @property
    def accuracy(self) -> dict[str, Any] | None:
        """Share of right answers, overall and by domain; None unless answers were read."""
        return self._content["accuracy"]

    @property
    def model(self) -> dict[str, Any]:
        """What was audited."""
        return self._content["model"]

    @property
    def tasks(self) -> dict[str, Any]:
        """What it was asked."""
        return self._content["tasks"]

    @property
    def kind(self) -> str:
        """The reading of contribution that the figures rest on."""
        return self._content["kind"]

    @property
    def scope(self) -> str:
        """Where routing was read: last or all."""
        return self._content["scope"]

    def frame(self) -> pl.DataFrame:
        """One row a layer: its numbers, committee, candidates and measures; `specificity` is the mean over domains."""
        columns = {**_COLUMNS, **dict.fromkeys(self._measures(), pl.Float64)}
        rows = {name: pl.Series([layer[name] for layer in self.layers], dtype=kind) for name, kind in columns.items()}
        means = [_mean(layer["specificity"]) for layer in self.layers]
        return pl.DataFrame({**rows, "specificity": pl.Series(means, dtype=pl.Float64)})

    def save(self, path: Path | str) -> None:
        """Write audit.json to the file `path`."""
        text = json.dumps(self._content, indent=2, ensure_ascii=False, allow_nan=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str, *, already_complete: bool = False) -> Self:
        """The result in a run's folder, or in an audit.json alone.

        Raises:
            RunError: no complete run or no audit there, or one of another schema.
        """
        path = Path(path)
        if path.is_dir():
            return super().load(path, already_complete=already_complete)
        try:
            return cls(cls.checked(json.loads(path.read_bytes()), path))
        except OSError as error:
            received = error.strerror or error
            raise RunError(path, expected="a run's folder or an audit.json", received=received) from error
        except ValueError as error:
            raise RunError(path, expected="an audit.json", received=f"no JSON ({error})") from error

    def _measures(self) -> list[str]:
        """Names of the run's measures; a run from before audit.json listed them has today's that its layers hold."""
        listed = self._content.get("measures")
        return [name for name in MEASURES if name in self.layers[0]] if listed is None else [m["name"] for m in listed]

    def title(self) -> str:
        """What was measured, of which model, on which questions."""
        tasks = self.tasks
        asked = f"{tasks['questions']} questions of {tasks['name']} in {len(tasks['domains'])} domains"
        return f"Audit of {self.model['id']} on {asked} (kind {self.kind}, scope {self.scope})"

    def _repr_html_(self) -> str:
        """A notebook's table: a row a layer, its claim, and figures with 95 % intervals beside the floor |C|/E."""
        names = ("layer", "claim", "committee", "coverage", "Gini", "Jaccard", "|C|/E")
        head = "".join(f"<th>{name}</th>" for name in names)
        rows = "".join(_html_row(layer) for layer in self.layers)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return f"<p>{escape(self.title())}; 95 % intervals in brackets</p>{table}"

    def __repr__(self) -> str:
        head = self.title()
        with pl.Config(
            tbl_rows=-1,
            tbl_cols=-1,
            tbl_hide_dataframe_shape=True,
            tbl_hide_column_data_types=True,
            tbl_width_chars=160,
        ):
            return f"{head}\n{self.frame().select('layer', 'committee', 'fallback', *self._measures())}"


def _cell(value: object, interval: Sequence[float] | None = None) -> str:
    """A table cell; text is escaped, for names come from people's files."""
    shown = "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    bounds = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"<td>{escape(shown + bounds)}</td>"


def _html_row(layer: LayerAudit) -> str:
    floors, claim = layer["nulls"].get("floors"), layer["claim"]
    of_coverage = floors.get("coverage") if isinstance(floors, dict) else None
    cells = [
        _cell(layer["layer"]),
        _cell(claim["verdict"] if claim else None),
        _cell(", ".join(map(str, layer["committee"])) + (" (fallback)" if layer["fallback"] else "")),
        *(_cell(layer[name], layer["intervals"].get(name)) for name in ("coverage", "gini", "jaccard_mean")),
        _cell(of_coverage),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _mean(specificity: dict[str, float] | None) -> float | None:
    return sum(specificity.values()) / len(specificity) if specificity else None
