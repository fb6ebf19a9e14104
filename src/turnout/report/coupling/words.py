"""A measured coupling in words: sentences, terminal tables, facts and terms, from coupling.json's content."""

from collections.abc import Mapping
from typing import Any

from turnout.report.kit.text import Table, counted, mean, name, number, percent, span

Coupling = Mapping[str, Any]

SCALES = ("raw", "scale_free")
SCALE_NAMES = {"raw": "M", "scale_free": "scale-free M"}
TERMS = [
    ("M", "M[i, j] = ‖R[i] W_g of expert j‖: the norm of expert j’s gate for router row i, before the activation."),
    ("Scale-free M", "M with rows and gate matrices of length 1. A random direction gives about 1/√H."),
    ("Own expert", "Expert i for router row i: the diagonal of M."),
    ("ERC loss L", "How far entries of the diagonal’s row and column exceed α times the diagonal (arXiv 2512.23447)."),
    ("ε", "Noise bound: how far a row may be scaled, coordinate by coordinate, and remain nearest to itself."),
    ("Random pairings", "M with experts relabeled at random: a router without any relation to the experts."),
    ("p", "Share of random pairings, the real one included, that are at least as coupled; one layer at a time."),
    ("By load", "A router that chooses each expert as often as this one, whatever the token."),
]
_LEVEL = 0.05


def coupling_sentences(coupling: Coupling) -> list[str]:
    """Each figure beside that of random pairings of the same routers and experts, a sentence or two each."""
    bound = coupling["overall"]["noise_bound"]
    lines = [_matrix_sentence(coupling, scale) for scale in SCALES]
    lines.append(
        f"Mean noise bound ε: {_short(bound['mean'])} (layers {_short(bound['min'])} to {_short(bound['max'])})."
    )
    if any(not layer["gated"] for layer in coupling["layers"]):
        lines.append("Experts have no gate matrix: their first matrix is used in its place.")
    return [*lines, *([_tokens_sentence(coupling)] if coupling["tasks"] else [])]


def coupling_tables(coupling: Coupling) -> list[Table]:
    """M by layer, scale-free M by layer, and real tokens where they were measured."""
    tables = [_matrix(coupling, scale) for scale in SCALES]
    return [*tables, _tokens(coupling)] if coupling["tasks"] else tables


def lead(coupling: Coupling) -> str:
    """What was measured, in one line."""
    layers = coupling["layers"]
    experts = span([layer["experts"] for layer in layers])
    return (
        f"{counted(len(layers), 'MoE layer')} of {experts} routed experts. Computed from the weights, without training."
    )


def facts(coupling: Coupling, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Term and value of model, settings and versions."""
    model, config, tasks = coupling["model"], coupling["config"], coupling["tasks"]
    entries = [
        ("Model", str(model["id"])),
        ("Revision", str(model.get("revision") or "–")),
        ("Architecture", str(model.get("architecture") or "–")),
        ("Dtype of the weights", str(model.get("dtype"))),
        ("Weights, SHA-256", str(model["digest"])),
        ("Random pairings", f"{config['permutations']:,}"),
        ("Bootstrap draws", f"{config['resamples']:,}"),
        ("Seed", str(config["seed"])),
    ]
    if tasks:
        entries.append(("Tokens of", f"{tasks['name']}, {tasks['questions']:,} samples, scope {tasks['scope']}"))
    versions = manifest.get("versions")
    known = versions if isinstance(versions, dict) else {}
    return entries + [(f"Version of {package}", str(version)) for package, version in known.items() if version]


def _matrix_sentence(coupling: Coupling, scale: str) -> str:
    """Dominant diagonal and ERC loss of one scale of M."""
    overall, n_layers = coupling["overall"][scale], len(coupling["layers"])
    rows, loss = overall["rows"], overall["loss"][0]
    expected = mean([layer[scale]["rows"]["expected"] for layer in coupling["layers"]])
    expected_loss = mean([layer[scale]["loss"][0]["expected"] for layer in coupling["layers"]])
    title = SCALE_NAMES[scale][:1].upper() + SCALE_NAMES[scale][1:]
    return (
        f"{title}: the own expert has the largest norm for {percent(rows['mean'])} of router rows, against "
        f"{percent(expected)} in random pairings; more than in random pairings in {rows['coupled_layers']} of "
        f"{n_layers} layers (5 %, Holm over layers). ERC loss at α = {loss['alpha']:g}: {_short(loss['mean'])}, random "
        f"pairings {_short(expected_loss)}; lower in {loss['coupled_layers']} of {n_layers} layers."
    )


def _tokens_sentence(coupling: Coupling) -> str:
    """How often the expert of largest norm is chosen for real tokens, at length-1 gates."""
    layers, tokens = coupling["layers"], coupling["layers"][0]["tokens"]
    agree = [layer["tokens"]["scale_free"]["agree"] for layer in layers]
    value, chance, by_load = (percent(mean([layer[of] for layer in agree])) for of in ("value", "expected", "by_load"))
    above = sum(layer["interval"][0] > layer["by_load"] for layer in agree)
    below = sum(layer["interval"][1] < layer["by_load"] for layer in agree)
    return (
        f"On {tokens['tokens']:,} tokens of {tokens['samples']:,} samples, the expert of largest gate norm (gates of "
        f"length 1) is among the chosen in {value}; by chance {chance}, by load alone {by_load}. The 95 % interval is "
        f"above the value by load in {above} of {len(layers)} layers, below it in {below}."
    )


def _matrix(coupling: Coupling, scale: str) -> Table:
    """Shares, ratio and the loss at each α; * where p ≤ 0.05 in that layer; the last row is of random pairings."""
    losses = coupling["layers"][0][scale]["loss"]
    columns = ("layer", "ε", "rows", "columns", "diag/rest", *(f"L {loss['alpha']:g}" for loss in losses))
    rows = [_matrix_row(layer, scale) for layer in coupling["layers"]]
    figures = [_figures(layer, scale) for layer in coupling["layers"]]
    expected = [mean([layer_figures[at]["expected"] for layer_figures in figures]) for at in range(len(figures[0]))]
    title = f"{name(coupling['model']['id'])}, {SCALE_NAMES[scale]}; * p ≤ 0.05 against random pairings"
    return Table(title, columns, (*rows, ("random", "", *_cells(expected))))


def _figures(layer: Mapping[str, Any], scale: str) -> list[Mapping[str, Any]]:
    """Shares of rows and of columns, ratio, and the loss at each α."""
    measured = layer[scale]
    return [measured["rows"], measured["columns"], measured["ratio"], *measured["loss"]]


def _cells(values: list[float | None]) -> list[str]:
    """The values of `_figures` as text."""
    rows, columns, ratio, *losses = values
    return [percent(rows), percent(columns), number(ratio, ".2f"), *map(_short, losses)]


def _matrix_row(layer: Mapping[str, Any], scale: str) -> tuple[str, ...]:
    figures = _figures(layer, scale)
    stars = ["*" if figure["p"] is not None and figure["p"] <= _LEVEL else " " for figure in figures]
    cells = [cell + star for cell, star in zip(_cells([figure["value"] for figure in figures]), stars, strict=True)]
    return (str(layer["layer"]), number(layer["noise_bound"]["value"], ".2f"), *cells)


def _tokens(coupling: Coupling) -> Table:
    """How often the expert of largest norm is chosen, and chosen first, by layer, for gates of length 1."""
    layers = [(layer["layer"], layer["tokens"]["scale_free"]) for layer in coupling["layers"]]
    rows = tuple(
        (
            str(number_of),
            *_token_cells(measured["agree"]),
            *_token_cells(measured["first"]),
            f"{measured['correlation']['value']:+.2f}",
        )
        for number_of, measured in layers
    )
    agree, first = (percent(mean([measured[of]["expected"] for _, measured in layers])) for of in ("agree", "first"))
    columns = ("layer", f"chosen ({agree})", "by load", f"first ({first})", "by load", "rank corr.")
    where = "last tokens" if coupling["tasks"]["scope"] == "last" else "all tokens"
    title = f"{name(coupling['tasks']['name'])}, {where}: expert of largest norm, gates of length 1; (chance)"
    return Table(title, columns, rows)


def _token_cells(figure: Mapping[str, Any]) -> tuple[str, str]:
    low, high = (f"{100 * end:.1f}" for end in figure["interval"])
    return f"{100 * figure['value']:.1f} % [{low} {high}]", f"{100 * figure['by_load']:.1f} %"


def _short(value: float | None) -> str:
    """Three decimals, four for small losses, then a power of ten."""
    if value is None or value == 0:
        return "–" if value is None else "0"
    digits = 3 if abs(value) >= 0.0095 else 4
    return f"{value:.{digits}f}" if abs(value) >= 0.00095 else f"{value:.0e}"
