"""Every figure of the page as data: a stored run in, plain dicts of lists out, undefined figures None.

What is drawn is what these return; tests assert on it, and any plotting library can draw it.
Shape suffixes: L MoE layers, E experts of the widest layer, D domains.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.report.audit import evidence
from turnout.report.audit.evidence import MEASURES, floor
from turnout.report.audit.stored import StoredRun

MEAN = None  # the domain that stands for the mean over all domains

Figure = dict[str, Any]
Layer = dict[str, Any]


def layer_table(layers: list[Layer]) -> list[Figure]:
    """One row a layer: audit.json's figures, each measure with its interval and nulls, and the claim's verdict."""
    plain = ("layer", "experts", "top_k", "shared", "committee", "candidates", "fallback")
    return [
        {name: layer[name] for name in plain}
        | {"claim": (layer.get("claim") or {}).get("verdict")}
        | {name: evidence.figure(layer, name) for name in MEASURES}
        for layer in layers
    ]


def overview(audit: Mapping[str, Any]) -> list[Figure]:
    """Each measure over layers: mean, least and largest, and its mean without some domains.

    `floor`, `rotated` and `ceiling` are means over layers, as are the ends of `interval`: layers share their resamples
    and vary together, so that the mean's own interval is no wider.
    """
    layers = audit["layers"]
    nulls = {"floor": floor, "rotated": evidence.rotated}
    return [
        {
            "measure": measure,
            **{name: audit["overall"][measure][name] for name in ("mean", "min", "max")},
            "interval": _mean_interval([evidence.interval(layer, measure) for layer in layers]),
            **{name: _mean([null(layer, measure) for layer in layers]) for name, null in nulls.items()},
            "ceiling": _mean([evidence.ceiling(layer) for layer in layers]) if measure == "jaccard_mean" else None,
            "without": [[name, other[measure]["mean"]] for name, other in audit["overall_without"].items()],
        }
        for measure in MEASURES
    ]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _mean_interval(intervals: list[list[float] | None]) -> list[float] | None:
    """The mean of the lower and of the upper ends; None where a layer has none."""
    known = [interval for interval in intervals if interval is not None]
    if not known or len(known) < len(intervals):
        return None
    return [sum(ends) / len(known) for ends in zip(*known, strict=True)]


def depth_profile(layers: list[Layer], measure: str) -> Figure:
    """One measure along depth: layer numbers, values, intervals and nulls (None where there is none)."""
    found = [evidence.figure(layer, measure) for layer in layers]
    columns = ("value", "interval", "floor", "rotated", "ceiling")
    return {"layer": [layer["layer"] for layer in layers]} | {name: [of[name] for of in found] for name in columns}


def heat_map(run: StoredRun, kind: str, domain: str | None = MEAN) -> Figure:
    """Contribution of every expert in every layer: `values[row][expert]`, row a position in `layers`.

    Args:
        run: the stored run.
        kind: gate, frequency, weight or released.
        domain: a domain's name, or None for the mean over domains.

    Returns:
        layers, experts, values [L][E] (None beyond a layer's experts), and `members` and `candidates` (those that
        are no members), each a list of [row, expert]. Both are of the audit's own kind, whatever `kind` is drawn.
    """
    grid_LE = run.mean_contribution(kind) if domain is MEAN else run.contribution(kind)[run.domains.index(domain)]
    return {
        "layers": run.layer_numbers,
        "experts": list(range(run.widest)),
        "values": _lists(grid_LE),
        **marks(run.layers),
    }


def marks(layers: list[Layer]) -> Figure:
    """Committee members, and candidates that are none, as [row, expert] pairs."""
    members = [[row, expert] for row, layer in enumerate(layers) for expert in layer["committee"]]
    candidates = [
        [row, expert]
        for row, layer in enumerate(layers)
        for expert in layer["candidates"]
        if expert not in layer["committee"]
    ]
    return {"members": members, "candidates": candidates}


def start(layers: list[Layer]) -> Figure:
    """Where the page opens: the layer of greatest coverage (the first, if none is defined) and its first member."""
    row = max(range(len(layers)), key=lambda place: (layers[place]["coverage"] or 0.0, -place))
    return {"row": row, "expert": layers[row]["committee"][0]}


def rank_plane(run: StoredRun, layer: int) -> Figure:
    """Mean and population variance of rank of each expert of one layer, and its role: member, candidate or neither.

    `stability` is the share of resamples in which it is candidate; None in runs without resamples.
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
    """Cumulated share of contribution against share of experts, poorest first, 0 to 1; empty where none has any."""
    table = run.tables["lorenz"]
    share = table.filter(table["layer"] == layer).sort("position")["share"].to_list()
    return {"experts": [position / (len(share) - 1) for position in range(len(share))], "share": share}


def jaccard_matrix(run: StoredRun, layer: int) -> Figure:
    """Overlap of every two domains' first-K sets in one layer: `values[a][b]`, 1 on the diagonal."""
    return {"domains": run.domains, "values": _lists(run.jaccard[run.layer_numbers.index(layer)])}


def specificity(run: StoredRun) -> Figure:
    """Mean silhouette of each domain's samples in each layer: `values[row][domain]`, None where it is undefined.

    `intervals[row][domain]` beside it, and `levels[domain]`, what they rest on; None for a dropped domain.
    """
    values = [[(layer["specificity"] or {}).get(domain) for domain in run.domains] for layer in run.layers]
    found = [[evidence.specificity_interval(layer, domain) or {} for domain in run.domains] for layer in run.layers]
    return {
        "layers": run.layer_numbers,
        "domains": run.domains,
        "values": values,
        "intervals": [[of.get("interval") for of in row] for row in found],
        "levels": [of.get("level") for of in found[0]],
    }


def expert_card(run: StoredRun, layer: int, expert: int, kind: str) -> Figure:
    """One expert of one layer: its contribution and rank in each domain, and its row of the experts table."""
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


def _lists(array: NDArray[np.float64]) -> Any:
    """`array` as a number or nested lists, with None for NaN."""
    filled = np.array(array, dtype=object)
    filled[np.isnan(array)] = None
    return filled.tolist()
