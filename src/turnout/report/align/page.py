"""The page of an alignment, from align.json and its curves."""

from typing import Any

import polars as pl

from turnout.report.align.words import Alignment, accuracies, alignment_sentences, facts
from turnout.report.kit.page import assemble_page, read_content
from turnout.runs import RunFolder

SCRIPTS = ("align/page.js",)
_CURVES = ("loss", "cross_entropy", "penalty", "gradient_norm")
_MOST_POINTS = 2000


def render_alignment(folder: RunFolder) -> str:
    """The page of a finished alignment as HTML.

    Raises:
        RunError: the run is damaged or of another schema.
    """
    alignment = read_content(folder, "align.json", "an alignment")
    curves = folder.read_table("curves") if (folder.path / "tables" / "curves.parquet").exists() else None
    data = page_data(alignment, curves) | {"facts": facts(alignment, folder.manifest)}
    return assemble_page("align/page.html", SCRIPTS, data)


def page_data(alignment: Alignment, curves: pl.DataFrame | None) -> dict[str, Any]:
    """Title, sentences, accuracies and curves for the page's script, ready for JSON."""
    return {
        "title": f"{alignment['model']['id']}, {alignment['config']['method']}",
        "sentences": alignment_sentences(alignment),
        "accuracy": [{"domain": domain, **accuracy} for domain, accuracy in accuracies(alignment)],
        "curves": None if curves is None or curves.is_empty() else _thinned(curves),
    }


def _thinned(curves: pl.DataFrame) -> dict[str, list[float]]:
    """At most 2,000 steps of each curve, evenly spaced."""
    every = -(-len(curves) // _MOST_POINTS)
    kept = curves.gather_every(every)
    return {column: kept[column].to_list() for column in ("step", *_CURVES)}
