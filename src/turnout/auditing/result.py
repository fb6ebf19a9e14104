"""Result of an audit: audit.json as an object."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Self

import polars as pl

from turnout.auditing.figures import SCHEMA, LayerAudit
from turnout.auditing.measures import describe
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
        """The MoE layers in order of depth, each a dict as in audit.json."""
        return tuple(self._content["layers"])

    @property
    def overall(self) -> dict[str, dict[str, float | int | None]]:
        """Mean, min and max over layers of each measure."""
        return self._content["overall"]

    @property
    def overall_without(self) -> dict[str, dict[str, dict[str, float | int | None]]]:
        """`overall` without the questions of each domain whose subjects are Turnout's own choice (Lang-Ling)."""
        return self._content["overall_without"]

    @property
    def accuracy(self) -> dict[str, Any] | None:
        """Share of right answers, overall and by domain; None unless answers were read."""
        return self._content["accuracy"]

    @property
    def model(self) -> dict[str, Any]:
        """Description of the model."""
        return self._content["model"]

    @property
    def tasks(self) -> dict[str, Any]:
        """Description of the questions."""
        return self._content["tasks"]

    @property
    def kind(self) -> str:
        """The kind of contribution from which the figures are computed."""
        return self._content["kind"]

    @property
    def scope(self) -> str:
        """The tokens at which routing was captured: last or all."""
        return self._content["scope"]

    @property
    def measures(self) -> list[dict[str, Any]]:
        """Descriptions of the run's measures, as audit.json lists them; runs from before that list have today's."""
        listed = self._content.get("measures")
        return [entry for entry in describe() if entry["name"] in self.layers[0]] if listed is None else listed

    def frame(self) -> pl.DataFrame:
        """One row per layer: numbers, committee, candidates and measures; `specificity` is the mean over domains."""
        columns = {**_COLUMNS, **{measure["name"]: pl.Float64 for measure in self.measures}}
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

    def title(self) -> str:
        """Model, questions, kind and scope in one line."""
        tasks = self.tasks
        questions = f"{tasks['questions']} questions of {tasks['name']} in {len(tasks['domains'])} domains"
        return f"Audit of {self.model['id']} on {questions} (kind {self.kind}, scope {self.scope})"

    def _repr_html_(self) -> str:
        """Table for notebooks: claim and measures of each layer, with 95 % intervals and floors."""
        names = ("layer", "claim", "committee", *(measure["short"] for measure in self.measures))
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        rows = "".join(_html_row(layer, self.measures) for layer in self.layers)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return f"<p>{escape(self.title())}; 95 % intervals in brackets, floors in parentheses</p>{table}"

    def __repr__(self) -> str:
        names = [measure["name"] for measure in self.measures]
        with pl.Config(
            tbl_rows=-1,
            tbl_cols=-1,
            tbl_hide_dataframe_shape=True,
            tbl_hide_column_data_types=True,
            tbl_width_chars=160,
        ):
            return f"{self.title()}\n{self.frame().select('layer', 'committee', 'fallback', *names)}"


def _html_row(layer: LayerAudit, measures: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        str(layer["layer"]),
        layer["claim"]["verdict"] if layer["claim"] else "–",
        ", ".join(map(str, layer["committee"])) + (" (fallback)" if layer["fallback"] else ""),
        *(_figure(layer, measure) for measure in measures),
    ]
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _figure(layer: LayerAudit, measure: Mapping[str, Any]) -> str:
    """Value, interval and floor of a measure; a dash if it is undefined."""
    name, form = measure["name"], measure["format"]
    if layer[name] is None:
        return "–"
    interval, floor = layer["intervals"].get(name), layer["nulls"].get("floors", {}).get(name)
    bounds = "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"
    return f"{layer[name]:{form}}{bounds}" + ("" if floor is None else f" ({floor:{form}})")


def _mean(specificity: dict[str, float] | None) -> float | None:
    return sum(specificity.values()) / len(specificity) if specificity else None
