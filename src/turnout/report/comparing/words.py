"""A comparison in words: sentences and terminal tables, from the content of a `Comparison`."""

from collections.abc import Mapping
from typing import Any

from turnout.report.audit.measures import Measure, measures_of
from turnout.report.kit.text import Table, experts, name, number, signed

Comparison = Mapping[str, Any]


def comparison_sentences(comparison: Comparison) -> list[str]:
    """How each run is paired with the reference, what differs beside the model, and how to read the intervals."""
    first = title(comparison["runs"][comparison["reference"]])
    lines = [
        _pairing(run, pair, first)
        for run, pair in zip(comparison["runs"], comparison["pairs"], strict=True)
        if pair is not None
    ]
    if comparison["differences"]:
        lines.append(f"The runs differ in more than the model: {', '.join(comparison['differences'])}.")
    if any(run["kind"] == "released" for run in comparison["runs"]):
        lines.append("Kind released: resamples keep each expert’s least and greatest weight in a domain.")
    lines.append(
        "Each interval is at 95 % by itself, not over all layers. An interval that includes 0 shows no difference."
    )
    return lines


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Differences on average, a table for each measure, committees, and their overlap and agreement where computed."""
    tables = [_overall(comparison), *(_measure(comparison, measure) for measure in measures_of(comparison))]
    tables.append(_committees(comparison))
    tables += [_overlaps(comparison)] if has(comparison, "overlap") else []
    return [*tables, _agreement(comparison)] if has(comparison, "agreement") else tables


def has(comparison: Comparison, figure: str) -> bool:
    """Whether any layer and run has this figure: "overlap" or "agreement"."""
    return any(value is not None for layer in comparison["layers"] for value in layer[figure])


def title(run: Mapping[str, Any]) -> str:
    """The name of a run in the comparison."""
    return str(run["run"])


def _pairing(run: Mapping[str, Any], pair: Mapping[str, Any], first: str) -> str:
    how = "" if pair["matched_by"] == "number" else f" Layers are matched by {pair['matched_by']}."
    if pair["reason"]:
        return f"{title(run)} − {first}: no intervals, since {pair['reason']}.{how}"
    kind = "paired (same questions)" if pair["paired"] else "unpaired (other questions)"
    return f"{title(run)} − {first}: {pair['draws']:,} resamples of {pair['level']}, {kind}.{how}"


def _names(comparison: Comparison) -> list[str]:
    return [name(title(run), 16) for run in comparison["runs"]]


def _others(comparison: Comparison) -> list[int]:
    return [at for at in range(len(comparison["runs"])) if at != comparison["reference"]]


def _overall(comparison: Comparison) -> Table:
    runs, others, overall = _names(comparison), _others(comparison), comparison["overall"]
    rows = [
        (measure.label, *(_difference(overall[at]["differences"][measure.name]) for at in others))
        for measure in measures_of(comparison)
    ]
    if has(comparison, "agreement"):
        rows.append(("Same experts", *(_bounded(overall[at]["agreement"]) for at in others)))
    columns = ("measure", *(f"{runs[at]} − {runs[comparison['reference']]}" for at in others))
    return Table("means over layers [95 % interval]", columns, tuple(rows))


def _measure(comparison: Comparison, measure: Measure) -> Table:
    """Values and differences; with more than two runs the values of the reference only, so that rows stay short."""
    runs, others, reference = _names(comparison), _others(comparison), comparison["reference"]
    shown = range(len(runs)) if len(runs) == 2 else [reference]
    rows = tuple(
        (
            _layer(layer),
            *(number(layer[measure.name][at], measure.format) for at in shown),
            *(_difference(layer["differences"][measure.name][at]) for at in others),
        )
        for layer in comparison["layers"]
    )
    columns = ("layer", *(runs[at] for at in shown), *(f"{runs[at]} − {runs[reference]}" for at in others))
    return Table(measure.label, columns, rows)


def _committees(comparison: Comparison) -> Table:
    rows = tuple((_layer(layer), *map(experts, layer["committee"])) for layer in comparison["layers"])
    return Table("committees", ("layer", *_names(comparison)), rows)


def _overlaps(comparison: Comparison) -> Table:
    runs, others = _names(comparison), _others(comparison)
    rows = tuple((_layer(layer), *(_overlap(layer["overlap"][at]) for at in others)) for layer in comparison["layers"])
    heading = (
        f"overlap with the committee of {runs[comparison['reference']]}: Jaccard [95 % interval], p of random sets"
    )
    return Table(heading, ("layer", *(runs[at] for at in others)), rows)


def _agreement(comparison: Comparison) -> Table:
    runs, others = _names(comparison), _others(comparison)
    rows = tuple((_layer(layer), *(_chosen(layer["agreement"][at]) for at in others)) for layer in comparison["layers"])
    reference = runs[comparison["reference"]]
    heading = f"share of a token’s experts that are the same as in {reference} [95 % interval] (by load alone)"
    return Table(heading, ("layer", *(runs[at] for at in others)), rows)


def _layer(layer: Mapping[str, Any]) -> str:
    """The layer's number, and those of the matched layers where they differ."""
    others = [str(matched) for matched in dict.fromkeys(layer["matched"]) if matched != layer["layer"]]
    return f"{layer['layer']} ({', '.join(others)})" if others else str(layer["layer"])


def _difference(difference: Mapping[str, Any] | None) -> str:
    return "–" if difference is None else signed(difference["difference"], difference["interval"])


def _bounded(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    return f"{figure['value']:.3f} [{figure['interval'][0]:.3f} {figure['interval'][1]:.3f}]"


def _chosen(agreement: Mapping[str, Any] | None) -> str:
    return "–" if agreement is None else f"{_bounded(agreement)} ({agreement['by_load']:.3f})"


def _overlap(overlap: Mapping[str, Any] | None) -> str:
    if overlap is None:
        return "–"
    bounds = "" if overlap["interval"] is None else f" [{overlap['interval'][0]:.2f} {overlap['interval'][1]:.2f}]"
    return f"{overlap['jaccard']:.2f}{bounds}, p {overlap['p']:.2g}"
