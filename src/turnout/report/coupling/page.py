"""A measured coupling as one self-contained page, from coupling.json and its tables.

Shapes: N routed experts of a layer.
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from turnout.errors import RunError
from turnout.report.coupling.words import SCALE_NAMES, TERMS, Coupling, coupling_sentences, facts, lead
from turnout.report.kit.page import assembled
from turnout.runs import RunFolder

COUPLING_FILE = "coupling.json"
SCRIPTS = ("kit/elements.js", "kit/charts.js", "audit/evidence_charts.js", "coupling/charts.js", "coupling/page.js")
PAPER = (0.87, 0.42, 0.45, 0.25, 0.28, 0.24, 0.22, 0.21, 0.15, 0.16, 0.21, 0.50)
"""L at α = 1 of the paper's OLMoE-like 3B model trained without the ERC loss, layers 0 to 11 (arXiv 2512.23447)."""

_EXPERTS = ("noise_bound", "router_norm", "gate_norm", "diagonal", "row_rank", "column_rank")


def is_coupling(run_path: str | Path) -> bool:
    """Whether a run's folder holds a measured coupling."""
    return (Path(run_path) / COUPLING_FILE).is_file()


def render_coupling(run_path: str | Path) -> str:
    """The page of a finished run that measured coupling, as HTML.

    Raises:
        RunError: the run is unfinished or damaged, or of another schema.
    """
    folder = RunFolder.read(run_path)
    coupling = folder.read_json(COUPLING_FILE)
    if coupling.get("schema") != 1:
        raise RunError(folder.path, expected="a measured coupling of schema 1", received=coupling.get("schema"))
    matrix, experts = folder.read_table("coupling_matrix"), folder.read_table("experts")
    return assembled("coupling/page.html", SCRIPTS, page_data(coupling, folder.manifest, matrix, experts))


def page_data(
    coupling: Coupling, manifest: Mapping[str, Any], matrix: pl.DataFrame, experts: pl.DataFrame
) -> dict[str, Any]:
    """All that the page's script draws and says, ready for JSON."""
    return {
        "title": coupling["model"]["id"],
        "sentences": coupling_sentences(coupling),
        "lead": lead(coupling),
        "facts": facts(coupling, manifest),
        "terms": TERMS,
        "scale_names": SCALE_NAMES,
        "alphas": [loss["alpha"] for loss in coupling["layers"][0]["raw"]["loss"]],
        "overall": coupling["overall"],
        "layers": coupling["layers"],
        "tasks": coupling["tasks"],
        "paper": PAPER,
        "matrix": [packed_shares(_square(matrix, layer["layer"])) for layer in coupling["layers"]],
        "experts": [_columns(experts, layer["layer"]) for layer in coupling["layers"]],
    }


def packed_shares(values: NDArray[np.float64]) -> dict[str, Any]:
    """An array of numbers of at least 0 as its shape, its largest and base64 of 16-bit shares of the largest.

    Half the size of float32: pages of hundreds of experts stay small. A cell is off by 1/131,070 of the largest at
    most.
    """
    largest = float(values.max()) if values.size else 0.0
    shares = np.round(values / (largest or 1.0) * 65535).astype("<u2")
    coded = base64.b64encode(shares.tobytes()).decode("ascii")
    return {"shape": list(values.shape), "largest": largest, "bytes": coded}


def _square(matrix: pl.DataFrame, layer: int) -> NDArray[np.float64]:
    """[N, N]: M of one layer, row = router row, column = expert."""
    norms = matrix.filter(layer=layer).sort("proxy", "expert")["norm"].to_numpy()
    side = round(len(norms) ** 0.5)
    return norms.reshape(side, side)


def _columns(experts: pl.DataFrame, layer: int) -> dict[str, list[Any]]:
    own = experts.filter(layer=layer).sort("expert")
    names = [*_EXPERTS, *(f"{column}_scale_free" for column in ("diagonal", "row_rank", "column_rank"))]
    return {column: own[column].to_list() for column in names}
