"""The page of a comparison of runs, from the content of a `Comparison`."""

from pathlib import Path
from typing import Any

from turnout.report.audit.measures import measures_of
from turnout.report.comparing.words import Comparison, comparison_sentences, has, title
from turnout.report.kit.page import assemble_page
from turnout.runs import atomic

SCRIPTS = ("comparing/page.js",)


def write_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Write a comparison's page to the file `path` and return it."""
    path = Path(path)
    atomic.write_bytes(path, render_comparison(comparison).encode("utf-8", "replace"))
    return path


def render_comparison(comparison: Comparison) -> str:
    """A comparison's page as HTML."""
    return assemble_page("comparing/page.html", SCRIPTS, page_data(comparison))


def page_data(comparison: Comparison) -> dict[str, Any]:
    """Names, sentences and figures for the page's script, ready for JSON; measures without any value are left out."""
    layers = comparison["layers"]
    return {
        "runs": [title(run) for run in comparison["runs"]],
        "reference": comparison["reference"],
        "sentences": comparison_sentences(comparison),
        "measures": [
            measure.describe()
            for measure in measures_of(comparison)
            if any(value is not None for layer in layers for value in layer[measure.name])
        ],
        "overall": comparison["overall"],
        "layers": layers,
        "overlaps": has(comparison, "overlap"),
        "agreements": has(comparison, "agreement"),
    }
