"""Several runs side by side: tables for a terminal and one self-contained page, from what `auditing.compare` found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.report.audit.evidence import MEASURES
from turnout.report.audit.words import NAMES
from turnout.report.kit.page import assembled
from turnout.report.kit.text import Table, experts, name, number
from turnout.runs import atomic

Comparison = Mapping[str, Any]
SCRIPTS = ("kit/elements.js", "kit/charts.js", "audit/evidence_charts.js", "comparing/page.js")


def comparison_tables(comparison: Comparison) -> list[Table]:
    """A comparison for a terminal: what differs on average, then a table a measure, then committees and choices."""
    tables = [_overall(comparison), *(_measure(comparison, measure) for measure in MEASURES), _committees(comparison)]
    tables += [_overlaps(comparison)] if _any(comparison, "overlap") else []
    return [*tables, _agreement(comparison)] if _any(comparison, "agreement") else tables


def comparison_sentences(comparison: Comparison) -> list[str]:
    """What the differences rest on, run by run; what differs besides the model; what an interval that holds 0 means."""
    first = _title(comparison["runs"][comparison["reference"]])
    lines = [_paired(run, pair, first) for run, pair in zip(comparison["runs"], comparison["pairs"], strict=True)]
    besides = comparison["differences"]
    if besides:
        lines.append(f"Not only the model differs: {', '.join(besides)}.")
    if any(run["kind"] == "released" for run in comparison["runs"]):
        lines.append("Released: intervals keep each domain’s least and largest weight of an expert as found.")
    lines.append(
        "An interval that holds 0 shows no difference; each is at 95 % by itself, not over all layers together."
    )
    return [line for line in lines if line]


def write_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Write a comparison's page to the file `path`, whole or not at all."""
    path = Path(path)
    atomic.write_bytes(path, render_comparison(comparison).encode("utf-8", "replace"))
    return path


def render_comparison(comparison: Comparison) -> str:
    """A comparison as one self-contained page."""
    known = [measure for measure in MEASURES if any(v is not None for x in comparison["layers"] for v in x[measure])]
    data = {
        "runs": [_title(run) for run in comparison["runs"]],
        "models": [run["model"] for run in comparison["runs"]],
        "reference": comparison["reference"],
        "sentences": comparison_sentences(comparison),
        "measures": known,
        "names": NAMES,
        "overall": comparison["overall"],
        "layers": comparison["layers"],
        "pairs": comparison["pairs"],
        "overlaps": _any(comparison, "overlap"),
        "agreements": _any(comparison, "agreement"),
    }
    return assembled("comparing/page.html", SCRIPTS, data)


def _any(comparison: Comparison, what: str) -> bool:
    return any(found is not None for layer in comparison["layers"] for found in layer[what])


def _title(run: Mapping[str, Any]) -> str:
    return str(run["run"])


def _paired(run: Mapping[str, Any], pair: Mapping[str, Any] | None, first: str) -> str | None:
    if pair is None:
        return None
    how = "" if pair["matched_by"] == "number" else f" Layers are matched by {pair['matched_by']}."
    if pair["reason"]:
        return f"{_title(run)} − {first}: no intervals, since {pair['reason']}.{how}"
    kind = "paired, on the same questions" if pair["paired"] else "unpaired, for the questions are not the same"
    return f"{_title(run)} − {first}: {pair['draws']:,} resamples of {pair['level']}, {kind}.{how}"


def _names(comparison: Comparison) -> list[str]:
    return [name(_title(run), 16) for run in comparison["runs"]]


def _others(comparison: Comparison) -> list[int]:
    return [at for at in range(len(comparison["runs"])) if at != comparison["reference"]]


def _overall(comparison: Comparison) -> Table:
    runs, others = _names(comparison), _others(comparison)
    first = runs[comparison["reference"]]
    rows = [
        (NAMES[measure], *(_signed(comparison["overall"][at]["differences"][measure]) for at in others))
        for measure in MEASURES
    ]
    if _any(comparison, "agreement"):
        found = [comparison["overall"][at]["agreement"] for at in others]
        rows.append(("Same experts", *(_bounded(of) for of in found)))
    title = "means over layers, with 95 % intervals"
    return Table(title, ("figure", *(f"{runs[at]} − {first}" for at in others)), tuple(rows))


def _measure(comparison: Comparison, measure: str) -> Table:
    """Values and differences; of more than two runs the reference's values only, so that the rows stay short."""
    runs, others, at = _names(comparison), _others(comparison), comparison["reference"]
    shown = range(len(runs)) if len(runs) == 2 else [at]
    rows = tuple(
        (
            _layer(layer),
            *(number(layer[measure][run]) for run in shown),
            *(_signed(layer["differences"][measure][run]) for run in others),
        )
        for layer in comparison["layers"]
    )
    columns = ("layer", *(runs[run] for run in shown), *(f"{runs[run]} − {runs[at]}" for run in others))
    return Table(NAMES[measure], columns, rows)


def _committees(comparison: Comparison) -> Table:
    rows = tuple((_layer(layer), *(experts(found) for found in layer["committee"])) for layer in comparison["layers"])
    return Table("committees", ("layer", *_names(comparison)), rows)


def _overlaps(comparison: Comparison) -> Table:
    """How alike each committee is to the reference's; p: by random sets of these sizes."""
    runs, others = _names(comparison), _others(comparison)
    rows = tuple((_layer(layer), *(_overlap(layer["overlap"][at]) for at in others)) for layer in comparison["layers"])
    title = f"committees alike to {runs[comparison['reference']]}’s: Jaccard [95 % interval], p of random sets"
    return Table(title, ("layer", *(runs[at] for at in others)), rows)


def _agreement(comparison: Comparison) -> Table:
    runs, others = _names(comparison), _others(comparison)
    rows = tuple((_layer(layer), *(_chosen(layer["agreement"][at]) for at in others)) for layer in comparison["layers"])
    title = (
        f"experts that a token chooses, the same as in {runs[comparison['reference']]} [95 % interval] (by load alone)"
    )
    return Table(title, ("layer", *(runs[at] for at in others)), rows)


def _layer(layer: Mapping[str, Any]) -> str:
    """The layer's number, and its partners' where they have another."""
    others = [str(matched) for matched in dict.fromkeys(layer["matched"]) if matched != layer["layer"]]
    return f"{layer['layer']} ({', '.join(others)})" if others else str(layer["layer"])


def _signed(shift: Mapping[str, Any] | None) -> str:
    if shift is None:
        return "–"
    bounds = shift["interval"]
    return f"{shift['difference']:+.3f}" + ("" if bounds is None else f" [{bounds[0]:+.3f} {bounds[1]:+.3f}]")


def _bounded(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    return f"{found['value']:.3f} [{found['interval'][0]:.3f} {found['interval'][1]:.3f}]"


def _chosen(found: Mapping[str, Any] | None) -> str:
    return "–" if found is None else f"{_bounded(found)} ({found['by_load']:.3f})"


def _overlap(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    bounds = "" if found["interval"] is None else f" [{found['interval'][0]:.2f} {found['interval'][1]:.2f}]"
    return f"{found['jaccard']:.2f}{bounds}, p {found['p']:.2g}"
