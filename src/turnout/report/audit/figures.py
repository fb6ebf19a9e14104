"""Each figure of the page as data: a stored run in, plain dicts of lists out, undefined figures None.

The page, the paper figures and the tests all use these; any plotting library can draw them.
Shapes: L MoE layers, E experts of the widest layer, D domains.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.report.audit import evidence
from turnout.report.audit.measures import NULLS, Measure, measures_of
from turnout.report.audit.stored import StoredRun
from turnout.report.kit.text import mean

MEAN = None
"""In the place of a domain: the mean over all kept domains."""

Figure = dict[str, Any]
Layer = dict[str, Any]


def layer_table(run: StoredRun) -> list[Figure]:
    """One row a layer: committee, candidates, verdict, and each measure with interval and nulls."""
    plain = ("layer", "experts", "top_k", "shared", "committee", "candidates", "fallback")
    return [
        {name: layer[name] for name in plain}
        | {"claim": (layer.get("claim") or {}).get("verdict")}
        | {measure.name: measure.figure(layer) for measure in run.measures}
        for layer in run.layers
    ]


def overview(audit: Mapping[str, Any]) -> list[Figure]:
    """Each measure over layers: mean, least, greatest, interval and nulls, and its mean without some domains.

    The nulls are means over layers, as are the ends of `interval`. Layers share their resamples and vary together, so
    that the interval of the mean is no wider than that.
    """
    return [_over_layers(audit, measure) for measure in measures_of(audit)]


def _over_layers(audit: Mapping[str, Any], measure: Measure) -> Figure:
    layers, spread = audit["layers"], audit["overall"][measure.name]
    return {
        "measure": measure.name,
        **{name: spread[name] for name in ("mean", "min", "max")},
        "interval": _mean_interval([measure.interval(layer) for layer in layers]),
        **{null: mean([measure.null(layer, null) for layer in layers]) for null in NULLS},
        "without": [[domain, other[measure.name]["mean"]] for domain, other in audit["overall_without"].items()],
    }


def _mean_interval(intervals: list[list[float] | None]) -> list[float] | None:
    """Means of the lower and of the upper ends; None where a layer has no interval."""
    known = [interval for interval in intervals if interval is not None]
    if not known or len(known) < len(intervals):
        return None
    return [sum(ends) / len(known) for ends in zip(*known, strict=True)]


def depth_profile(run: StoredRun, measure: str) -> Figure:
    """One measure along depth: layer numbers, values, intervals and nulls; None where there is none."""
    figures = [run.measure(measure).figure(layer) for layer in run.layers]
    columns = ("value", "interval", *NULLS)
    return {"layer": run.layer_numbers} | {column: [figure[column] for figure in figures] for column in columns}


def heat_map(run: StoredRun, kind: str, domain: str | None = MEAN) -> Figure:
    """Contribution of each expert in each layer: `values[row][expert]`, row a position in `layers`.

    Args:
        run: the stored run.
        kind: "gate", "frequency", "weight" or "released".
        domain: name of a domain; None for the mean over domains.

    Returns:
        layers, experts, values [L][E] (None beyond a layer's experts), and `members` and `candidates` (the others
        among the candidates), lists of [row, expert]. Both are by the kind that was audited, whatever `kind` is drawn.
    """
    grid_LE = run.mean_contribution(kind) if domain is MEAN else run.contribution(kind)[run.domains.index(domain)]
    return {
        "layers": run.layer_numbers,
        "experts": list(range(run.widest)),
        "values": _lists(grid_LE),
        **marks(run.layers),
    }


def marks(layers: list[Layer]) -> Figure:
    """`members` of the committees and the other `candidates`, as [row, expert] pairs."""
    members = [[row, expert] for row, layer in enumerate(layers) for expert in layer["committee"]]
    candidates = [
        [row, expert]
        for row, layer in enumerate(layers)
        for expert in layer["candidates"]
        if expert not in layer["committee"]
    ]
    return {"members": members, "candidates": candidates}


def start(layers: list[Layer]) -> Figure:
    """The row and expert that the page shows first: greatest coverage (the first layer if undefined), first member."""
    row = max(range(len(layers)), key=lambda place: (layers[place]["coverage"] or 0.0, -place))
    return {"row": row, "expert": layers[row]["committee"][0]}


def rank_plane(run: StoredRun, layer: int) -> Figure:
    """Mean and population variance of the rank of each expert of a layer, and its role: member, candidate or other.

    `stability` is the share of resamples in which the expert is candidate; None in runs without resamples.
    """
    row = run.layer_numbers.index(layer)
    stored = run.layers[row]
    experts = list(range(stored["experts"]))
    role = [
        "member" if expert in stored["committee"] else "candidate" if expert in stored["candidates"] else "other"
        for expert in experts
    ]
    return {
        "expert": experts,
        "mean_rank": _lists(run.expert_column("mean_rank")[row, experts]),
        "rank_variance": _lists(run.expert_column("rank_variance")[row, experts]),
        "presence": _lists(run.expert_column("presence")[row, experts]),
        "stability": _lists(run.expert_column("candidate_stability")[row, experts]),
        "role": role,
    }


def lorenz_curve(run: StoredRun, layer: int) -> Figure:
    """Cumulated share of contribution against share of experts, least used first; empty without any contribution."""
    table = run.tables["lorenz"]
    share = table.filter(table["layer"] == layer).sort("position")["share"].to_list()
    return {"experts": [position / (len(share) - 1) for position in range(len(share))], "share": share}


def jaccard_matrix(run: StoredRun, layer: int) -> Figure:
    """Overlap of each two domains' first-K sets in a layer: `values[a][b]`, 1 on the diagonal."""
    return {"domains": run.domains, "values": _lists(run.jaccard[run.layer_numbers.index(layer)])}


def specificity(run: StoredRun) -> Figure:
    """Mean silhouette of each domain's samples in each layer: `values[row][domain]`, None where it is undefined.

    Beside it `intervals[row][domain]` and `levels[domain]`, what they resample; None for a dropped domain.
    """
    values = [[(layer["specificity"] or {}).get(domain) for domain in run.domains] for layer in run.layers]
    bounds = [[evidence.specificity_interval(layer, domain) or {} for domain in run.domains] for layer in run.layers]
    return {
        "layers": run.layer_numbers,
        "domains": run.domains,
        "values": values,
        "intervals": [[entry.get("interval") for entry in row] for row in bounds],
        "levels": [entry.get("level") for entry in bounds[0]],
    }


def expert_card(run: StoredRun, layer: int, expert: int, kind: str) -> Figure:
    """One expert of a layer: contribution with interval and rank in each domain, and its row of the experts table."""
    row = run.layer_numbers.index(layer)
    columns = ("mean_rank", "rank_variance", "presence", "share", "candidate_stability", "member_stability")
    return {
        "layer": layer,
        "expert": expert,
        "domains": run.domains,
        "contribution": _lists(run.contribution(kind)[:, row, expert]),
        "low": _lists(run.contribution_bound("low", kind)[:, row, expert]),
        "high": _lists(run.contribution_bound("high", kind)[:, row, expert]),
        "rank": _lists(run.ranks[:, row, expert]),
        **{column: _lists(run.expert_column(column)[row, expert]) for column in columns},
    }


def budgets(run: StoredRun) -> Figure | None:
    """Committee, measures and retention at other numbers of chosen experts K, means over layers; None if not measured.

    Returns:
        `k`, `own_k`, `names` (label of each curve), `modes` (recut, rerun → curve name → a value for each K) and
        `missing`, why there is no rerun.
    """
    stored = run.audit.get("budgets")
    if stored is None:
        return None
    labels = {measure.name: measure.label for measure in run.measures if measure.name in stored["curves"][0]}
    names = {"retention": "Retention", **labels, "committee_size": "Committee size"}
    modes = dict.fromkeys(row["mode"] for row in stored["curves"])
    return {
        "k": stored["k"],
        "own_k": stored["own_k"],
        "names": names,
        "modes": {mode: {name: _over_k(stored, mode, name) for name in names} for mode in modes},
        "missing": stored["rerun"]["missing"],
    }


def _over_k(stored: Mapping[str, Any], mode: str, name: str) -> list[float | None]:
    by_k = {row["k"]: row[name] for row in stored["curves"] if row["mode"] == mode}
    return [by_k.get(k) for k in stored["k"]]


def _lists(array: NDArray[np.float64]) -> Any:
    """`array` as a number or nested lists, with None for NaN."""
    filled = np.array(array, dtype=object)
    filled[np.isnan(array)] = None
    return filled.tolist()
