"""Several runs side by side, layer by layer, and what keeps them from being compared."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from turnout.report.evidence import MEASURES
from turnout.report.stored import StoredRun, read_run
from turnout.report.terminal import Table, experts, name, number

Comparison = dict[str, Any]


def compare(runs: Sequence[StoredRun | str | Path]) -> Comparison:
    """Per-layer figures of `runs` side by side, layers matched by their own number.

    Returns:
        runs: {"run", "model", "kind", "scope", "overall"} each; differences: what differs besides the model;
        layers: {"layer", "committee": […], "coverage": […], …} each, a list holding one entry a run, None where the run
        has no such layer or the figure is undefined.
    """
    stored = [run if isinstance(run, StoredRun) else read_run(run) for run in runs]
    by_number = [{layer["layer"]: layer for layer in run.layers} for run in stored]
    numbers = sorted(set().union(*by_number))
    columns = ("experts", "top_k", "committee", "candidates", "fallback", *MEASURES)
    return {
        "runs": [_describe(run) for run in stored],
        "differences": _differences(stored),
        "layers": [
            {"layer": at, **{column: [layers.get(at, {}).get(column) for layers in by_number] for column in columns}}
            for at in numbers
        ],
    }


def comparison_tables(comparison: Comparison) -> list[Table]:
    """A comparison for a terminal: one table a measure, a column a run, and how far each run is from the first."""
    runs = [name(run["run"], 16) for run in comparison["runs"]]
    columns = ("layer", *runs, *(f"{run} − first" for run in runs[1:]))
    tables = [
        Table(measure, columns, tuple(_row(str(layer["layer"]), layer[measure]) for layer in comparison["layers"]))
        for measure in MEASURES
    ]
    committees = tuple(
        (str(layer["layer"]), *(experts(found) if found else "–" for found in layer["committee"]))
        for layer in comparison["layers"]
    )
    notes = "".join(f"; {difference}" for difference in comparison["differences"])
    return [Table(f"committee{notes}", ("layer", *runs), committees), *tables]


def _row(layer: str, values: list[float | None]) -> tuple[str, ...]:
    first, *others = values
    shifts = (None if first is None or other is None else other - first for other in others)
    return (layer, *(number(value) for value in values), *("–" if s is None else f"{s:+.3f}" for s in shifts))


def _describe(run: StoredRun) -> dict[str, Any]:
    model = run.audit["model"].get("id")
    return {
        "run": run.path.resolve().name,
        "model": model,
        "kind": run.audit["kind"],
        "scope": run.audit["scope"],
        "overall": run.audit["overall"],
    }


def _differences(runs: list[StoredRun]) -> list[str]:
    """What differs between the runs besides the model, so that their figures are not of the same thing."""
    read = {
        "kind": [run.audit["kind"] for run in runs],
        "scope": [run.audit["scope"] for run in runs],
        "questions": [run.audit["tasks"].get("digest") for run in runs],
        "domain map": [run.audit["tasks"].get("domain_map") for run in runs],
    }
    return [f"different {words}" for words, values in read.items() if any(value != values[0] for value in values)]
