"""The page of a measured coupling, from coupling.json and its tables. Shape: N routed experts of a layer."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from turnout.report.coupling.words import SCALE_NAMES, TERMS, Coupling, coupling_sentences, facts, lead
from turnout.report.kit.page import assemble_page, packed_shares, read_content
from turnout.runs import RunFolder

SCRIPTS = ("coupling/charts.js", "coupling/page.js")
PAPER = (0.87, 0.42, 0.45, 0.25, 0.28, 0.24, 0.22, 0.21, 0.15, 0.16, 0.21, 0.50)
"""L at α = 1 of the paper's OLMoE-like 3B model trained without the ERC loss, layers 0 to 11 (arXiv 2512.23447)."""

_EXPERTS = ("noise_bound", "router_norm", "gate_norm", "diagonal", "row_rank", "column_rank")


def render_coupling(folder: RunFolder) -> str:
    """The page of a finished run that measured coupling, as HTML.

    Raises:
        RunError: the run is damaged or of another schema.
    """
    coupling = read_content(folder, "coupling.json", "a measured coupling")
    data = page_data(coupling, folder.read_table("coupling_matrix"), folder.read_table("experts"))
    data["facts"] = facts(coupling, folder.manifest)
    return assemble_page("coupling/page.html", SCRIPTS, data, ["coupling/page.css"])


def page_data(coupling: Coupling, matrix: pl.DataFrame, experts: pl.DataFrame) -> dict[str, Any]:
    """Words, figures and matrices for the page's scripts, ready for JSON."""
    return {
        "title": coupling["model"]["id"],
        "sentences": coupling_sentences(coupling),
        "lead": lead(coupling),
        "terms": TERMS,
        "scale_names": SCALE_NAMES,
        "alphas": [loss["alpha"] for loss in coupling["layers"][0]["raw"]["loss"]],
        "layers": coupling["layers"],
        "tasks": coupling["tasks"],
        "paper": PAPER,
        "matrix": [packed_shares(_square(matrix, layer["layer"])) for layer in coupling["layers"]],
        "experts": [_columns(experts, layer["layer"]) for layer in coupling["layers"]],
    }


def _square(matrix: pl.DataFrame, layer: int) -> NDArray[np.float64]:
    """[N, N]: M of one layer; rows are router rows, columns experts."""
    norms = matrix.filter(layer=layer).sort("proxy", "expert")["norm"].to_numpy()
    side = round(len(norms) ** 0.5)
    return norms.reshape(side, side)


def _columns(experts: pl.DataFrame, layer: int) -> dict[str, list[Any]]:
    """The columns of the experts table that the page shows, for one layer."""
    rows = experts.filter(layer=layer).sort("expert")
    names = [*_EXPERTS, *(f"{column}_scale_free" for column in ("diagonal", "row_rank", "column_rank"))]
    return {column: rows[column].to_list() for column in names}
