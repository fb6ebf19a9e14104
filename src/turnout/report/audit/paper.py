"""Figures of an audit for papers, as SVG: measures along depth, map, rank plane, Lorenz curve."""

from collections.abc import Iterator
from pathlib import Path

from turnout.report.audit import figures
from turnout.report.audit.measures import NULLS
from turnout.report.audit.stored import StoredRun
from turnout.report.kit.svg import BLUE, FAINT, GRAY, INK, RED, Axes, viridis
from turnout.runs import atomic

_NULL_LINES = (("floor", GRAY, "6 4"), ("rotated", RED, "2 3"), ("ceiling", GRAY, "8 3 2 3"))
_FILLS = {"member": RED, "candidate": "#ffffff", "other": FAINT}
_LINES = {"member": RED, "candidate": BLUE, "other": "#8a949e"}


def write_figures(run: StoredRun, folder: str | Path) -> list[Path]:
    """Write a run's figures into `folder` as SVG; files of the same name are replaced.

    Each measure along depth, the map, and the rank plane and Lorenz curve of one layer: that of greatest coverage, with
    which the page opens.
    """
    folder = Path(folder)
    atomic.make_folder(folder)
    paths = []
    for name, svg in _drawn(run):
        paths.append(folder / f"{name}.svg")
        atomic.write_bytes(paths[-1], svg.encode("utf-8"))
    return paths


def _drawn(run: StoredRun) -> Iterator[tuple[str, str]]:
    """Name and SVG of each figure."""
    for measure in run.measures:
        if run.audit["overall"][measure.name]["mean"] is not None:
            yield f"depth-{measure.name}", depth_svg(run, measure.name)
    layer = run.layer_numbers[figures.start(run.layers)["row"]]
    yield "map", map_svg(run)
    yield f"plane-{layer}", plane_svg(run, layer)
    yield f"lorenz-{layer}", lorenz_svg(run, layer)


def depth_svg(run: StoredRun, measure: str) -> str:
    """One measure along depth: band of 95 % intervals, floor (dashed), rotated router (dotted), ceiling."""
    profile, described = figures.depth_profile(run, measure), run.measure(measure)
    layers, values = profile["layer"], profile["value"]
    known = [value for name in ("value", *NULLS) for value in profile[name] if value is not None]
    known += [end for interval in profile["interval"] if interval for end in interval]
    axes = Axes((layers[0], layers[-1]), (0, 1) if described.is_share else (min(0, *known), max(known) or 1))
    marks = [axes.band(layers, profile["interval"])]
    marks += [axes.line(layers, profile[null], color, dash) for null, color, dash in _NULL_LINES]
    marks.append(axes.line(layers, values, BLUE, "", 2))
    marks += [axes.dot(x, y, 2.2, BLUE) for x, y in zip(layers, values, strict=True) if y is not None]
    return axes.document(described.label, "layer", described.label, marks)


def plane_svg(run: StoredRun, layer: int) -> str:
    """Mean and variance of rank of one layer's experts; marks are larger for more stable candidates."""
    plane = figures.rank_plane(run, layer)
    top_k = run.layers[run.layer_numbers.index(layer)]["top_k"]
    columns = (plane[name] for name in ("mean_rank", "rank_variance", "role", "stability", "expert"))
    points = [point for point in zip(*columns, strict=True) if point[0] is not None]
    axes = Axes((0.5, top_k + 1.5), (0, max([variance for _, variance, *_ in points], default=0) or 1))
    marks = []
    for mean, variance, role, stability, expert in points:
        size = (3 if role == "other" else 5) * (0.6 + 0.8 * (0.5 if stability is None else stability))
        marks.append(axes.dot(mean, variance, size, _FILLS[role], _LINES[role]))
        if role == "member":
            marks.append(axes.text(mean, variance, str(expert), RED))
    return axes.document(f"Layer {layer}", "mean rank over domains", "variance of rank", marks)


def lorenz_svg(run: StoredRun, layer: int) -> str:
    """Lorenz curve of one layer, those of the other layers behind it; the diagonal is equal use."""
    axes = Axes((0, 1), (0, 1))
    others = [figures.lorenz_curve(run, other) for other in run.layer_numbers if other != layer]
    marks = [axes.line(curve["experts"], curve["share"], FAINT, "", 0.7) for curve in others]
    curve = figures.lorenz_curve(run, layer)
    marks += [axes.line([0, 1], [0, 1], GRAY, "6 4"), axes.line(curve["experts"], curve["share"], BLUE, "", 2)]
    return axes.document(f"Layer {layer}", "share of experts, least used first", "share of contribution", marks)


def map_svg(run: StoredRun) -> str:
    """Contribution of each expert in each layer, mean over domains: dots for the committee, rings for candidates."""
    grid = figures.heat_map(run, run.audit["kind"])
    rows, columns = len(grid["layers"]), len(grid["experts"])
    most = max((value for row in grid["values"] for value in row if value is not None), default=0) or 1
    axes = Axes((-0.5, columns - 0.5), (rows - 0.5, -0.5), names=[str(layer) for layer in grid["layers"]])
    marks = [
        axes.cell(expert, row, viridis(value / most))
        for row, values in enumerate(grid["values"])
        for expert, value in enumerate(values)
        if value is not None
    ]
    size = max(1.0, min(4.0, 0.35 * axes.across(1)))
    marks += [axes.dot(expert, row, size, "none", "#ffffff") for row, expert in grid["candidates"]]
    marks += [axes.dot(expert, row, size, "#ffffff", INK) for row, expert in grid["members"]]
    return axes.document(f"Contribution ({run.audit['kind']}), 0 to {most:.3g}", "expert", "layer", marks)
