"""A measured coupling in words: tables for a terminal, sentences, facts and terms, from coupling.json's object."""

from collections.abc import Mapping, Sequence
from typing import Any

from turnout.report.kit.text import Table, name, number

SCALES = ("raw", "scale_free")
SCALE_NAMES = {"raw": "M", "scale_free": "scale-free M"}
_LEVEL = 0.05

Coupling = Mapping[str, Any]


def coupling_tables(coupling: Coupling) -> list[Table]:
    """Tables of a measured coupling (coupling.json's object): M by layer, scale-free M, and real tokens if any."""
    tables = [_matrix(coupling, scale) for scale in SCALES]
    return [*tables, _tokens(coupling)] if coupling["tasks"] else tables


def coupling_sentences(coupling: Coupling) -> list[str]:
    """What the figures say, each beside what random pairings of the same routers and experts would give."""
    lines = [_said(coupling, scale) for scale in SCALES]
    mean, least, most = (_short(coupling["overall"]["noise_bound"][of]) for of in ("mean", "min", "max"))
    lines.append(f"Mean noise bound ε: {mean} (layers {least} to {most}).")
    if any(not layer["gated"] for layer in coupling["layers"]):
        lines.append("Experts have no gate: their first matrix stands for it.")
    return [*lines, *_said_of_tokens(coupling)]


def _matrix(coupling: Coupling, scale: str) -> Table:
    """Shares, ratio and the loss at every α; a star where p ≤ 0.05 in that layer; last what random pairings give."""
    losses = coupling["layers"][0][scale]["loss"]
    columns = ("layer", "ε", "rows", "columns", "diag/rest", *(f"L {loss['alpha']:g}" for loss in losses))
    rows = [_matrix_row(layer, scale) for layer in coupling["layers"]]
    figures = [_figures(layer, scale) for layer in coupling["layers"]]
    expected = [_known_mean([of[at]["expected"] for of in figures]) for at in range(len(figures[0]))]
    cells = [_percent(expected[0]), _percent(expected[1]), number(expected[2], 2), *map(_short, expected[3:])]
    title = f"{name(coupling['model']['id'])}, {SCALE_NAMES[scale]}; * p ≤ 0.05 against random pairings"
    return Table(title, columns, (*rows, ("random", "", *cells)))


def _figures(layer: Mapping[str, Any], scale: str) -> list[Mapping[str, Any]]:
    found = layer[scale]
    return [found["rows"], found["columns"], found["ratio"], *found["loss"]]


def _matrix_row(layer: Mapping[str, Any], scale: str) -> tuple[str, ...]:
    figures = _figures(layer, scale)
    shown = [_percent(figures[0]["value"]), _percent(figures[1]["value"]), number(figures[2]["value"], 2)]
    shown += [_short(loss["value"]) for loss in figures[3:]]
    stars = ["*" if of["p"] is not None and of["p"] <= _LEVEL else " " for of in figures]
    cells = [cell + star for cell, star in zip(shown, stars, strict=True)]
    return (str(layer["layer"]), number(layer["noise_bound"]["value"], 2), *cells)


def _tokens(coupling: Coupling) -> Table:
    """How often the loudest expert is chosen, gates at length 1."""
    layers = [(layer["layer"], layer["tokens"]["scale_free"]) for layer in coupling["layers"]]
    rows = tuple(
        (
            str(layer),
            *(cell for measure in ("agree", "first") for cell in _token_cells(found[measure])),
            f"{found['correlation']['value']:+.2f}",
        )
        for layer, found in layers
    )
    agree, first = (_percent(_mean([found[of]["expected"] for _, found in layers])) for of in ("agree", "first"))
    columns = ("layer", f"chosen ({agree})", "by load", f"first ({first})", "by load", "rank corr.")
    tasks = coupling["tasks"]
    where = "last tokens" if tasks["scope"] == "last" else "all tokens"
    title = f"{name(tasks['name'])}, {where}: loudest expert, gates of length 1; (chance)"
    return Table(title, columns, rows)


def _token_cells(found: Mapping[str, Any]) -> tuple[str, str]:
    low, high = (f"{100 * end:.1f}" for end in found["interval"])
    return f"{100 * found['value']:.1f} % [{low} {high}]", f"{100 * found['by_load']:.1f} %"


def _said(coupling: Coupling, scale: str) -> str:
    """One sentence on M: rows, layers that beat random pairings, the loss."""
    overall, n_layers = coupling["overall"][scale], len(coupling["layers"])
    rows, loss = overall["rows"], overall["loss"][0]
    expected = _mean([layer[scale]["rows"]["expected"] for layer in coupling["layers"]])
    by_chance = _mean([layer[scale]["loss"][0]["expected"] for layer in coupling["layers"]])
    return (
        f"{_capital(SCALE_NAMES[scale])}: the own expert answers loudest to {_percent(rows['mean'])} of router rows "
        f"({_percent(expected)} if rows and experts were paired at random); in {rows['coupled_layers']} of {n_layers} "
        f"layers that is more than random pairings give (5 %, Holm over layers). ERC loss at α = {loss['alpha']:g}: "
        f"{_short(loss['mean'])}, random pairings {_short(by_chance)}; lower in {loss['coupled_layers']} of {n_layers} "
        "layers."
    )


def _said_of_tokens(coupling: Coupling) -> list[str]:
    if not coupling["tasks"]:
        return []
    found = [layer["tokens"]["scale_free"]["agree"] for layer in coupling["layers"]]
    tokens = coupling["layers"][0]["tokens"]
    above = sum(of["interval"][0] > of["by_load"] for of in found)
    below = sum(of["interval"][1] < of["by_load"] for of in found)
    return [
        f"On {tokens['tokens']:,} tokens of {tokens['samples']:,} samples, the expert whose gate (at length 1) answers "
        f"loudest is among the chosen in {_percent(_mean([of['value'] for of in found]))}; by chance "
        f"{_percent(_mean([of['expected'] for of in found]))}, by the experts’ loads alone "
        f"{_percent(_mean([of['by_load'] for of in found]))}. The 95 % interval lies above the loads’ figure in "
        f"{above} of {len(found)} layers, below it in {below}."
    ]


def lead(coupling: Coupling) -> str:
    """What the page is about, in one line."""
    n_layers = len(coupling["layers"])
    experts = sorted({layer["experts"] for layer in coupling["layers"]})
    spread = f"{experts[0]}" if len(experts) == 1 else f"{experts[0]} to {experts[-1]}"
    return f"{n_layers} MoE layers of {spread} routed experts; weights only, without training."


def facts(coupling: Coupling, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Model, settings and versions: (term, value)."""
    model, config = coupling["model"], coupling["config"]
    found = [
        ("Model", str(model["id"])),
        ("Revision", str(model.get("revision") or "–")),
        ("Architecture", str(model.get("architecture") or "–")),
        ("Weights in", str(model.get("dtype"))),
        ("Digest", str(model["digest"])),
        ("Random pairings", f"{config['permutations']:,}"),
        ("Bootstrap draws", f"{config['resamples']:,}"),
        ("Seed", str(config["seed"])),
    ]
    if coupling["tasks"]:
        tasks = coupling["tasks"]
        found.append(("Tokens from", f"{tasks['name']}, {tasks['questions']:,} samples, scope {tasks['scope']}"))
    versions = manifest.get("versions")
    shown = versions if isinstance(versions, dict) else {}
    return found + [(f"Version of {package}", str(version)) for package, version in shown.items() if version]


TERMS = [
    ("M", "M[i, j] = ‖R[i] W_g of expert j‖: how loud expert j’s gate answers router row i, before the activation."),
    ("Scale-free M", "M for rows and gate matrices of length 1. A direction drawn at random gives about 1/√H."),
    ("Dominant", "A diagonal entry that is larger than every other of its row, or of its column."),
    ("ERC loss L", "How far entries of the diagonal’s row and column exceed α times the diagonal (arXiv 2512.23447)."),
    ("ε", "How far a router row may be scaled, coordinate by coordinate, and stay nearest to itself."),
    ("Random pairings", "The same M with experts relabelled at random: what a router would get that knew no expert."),
    ("p", "Share of random pairings, the real one among them, that come out at least as coupled; by layer."),
    ("By load", "What a router would reach that chose every expert as often as this one, whatever the token."),
]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _known_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"


def _short(value: float | None) -> str:
    """Three significant digits; small losses with fewer, then as powers of ten."""
    if value is None or value == 0:
        return "–" if value is None else "0"
    digits = 3 if abs(value) >= 0.0095 else 4
    return f"{value:.{digits}f}" if abs(value) >= 0.00095 else f"{value:.0e}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
