"""A comparison as tables, sentences and a page; tests/comparing tests its figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report.browsing import opened
from report.conftest import HOSTILE
from report.markup import Elements

from turnout.report import comparison_sentences, comparison_tables, render_comparison, write_comparison
from turnout.report.audit.measures import measures_of

MEASURES = [measure.name for measure in measures_of({})]


def comparison(names: tuple[str, ...] = ("first", "second"), reference: int = 0, layers: int = 3) -> dict[str, Any]:
    """Runs whose figures are 0.1 higher from one to the next."""
    runs = range(len(names))

    def shift(at: int) -> dict[str, Any] | None:
        by = 0.1 * (at - reference)
        return None if at == reference else {"difference": by, "interval": [by - 0.02, by + 0.02]}

    def others(values: dict[str, Any]) -> list[dict[str, Any] | None]:
        return [None if at == reference else dict(values) for at in runs]

    agreement = {"value": 0.8, "interval": [0.7, 0.9], "chance": 0.25, "by_load": 0.3}
    entries = [
        {
            "layer": number,
            "matched": [number] * len(names),
            "experts": [8] * len(names),
            "top_k": [2] * len(names),
            "committee": [[1, 4]] * len(names),
            "candidates": [[1, 4]] * len(names),
            "fallback": [False] * len(names),
            "verdict": ["core"] * len(names),
            **{measure: [0.3 + 0.1 * at for at in runs] for measure in MEASURES},
            "differences": {measure: [shift(at) for at in runs] for measure in MEASURES},
            "overlap": others({"jaccard": 1.0, "shared": 2, "p": 0.036, "interval": [0.5, 1.0]}),
            "agreement": others(agreement),
        }
        for number in range(layers)
    ]
    pair = {"matched_by": "number", "paired": True, "level": "samples", "draws": 1000, "reason": None, "tokens": ""}
    overall = {"differences": dict.fromkeys(MEASURES), "agreement": agreement | {"layers": layers}}
    return {
        "schema": 1,
        "reference": reference,
        "runs": [{"run": name, "model": name, "kind": "gate", "scope": "last", "overall": {}} for name in names],
        "differences": [],
        "pairs": others(pair),
        "layers": entries,
        "overall": [
            None if at == reference else overall | {"differences": dict.fromkeys(MEASURES, shift(at))} for at in runs
        ],
    }


def test_tables_show_values_differences_and_intervals() -> None:
    overall, coverage, *_, committees, overlaps, agreement = comparison_tables(comparison())
    assert overall.columns == ("measure", "second − first")
    assert overall.rows[0] == ("Coverage", "+0.100 [+0.080 +0.120]")
    assert overall.rows[-1] == ("Same experts", "0.800 [0.700 0.900]")
    assert coverage.columns == ("layer", "first", "second", "second − first")
    assert coverage.rows[0] == ("0", "0.300", "0.400", "+0.100 [+0.080 +0.120]")
    assert committees.rows[0] == ("0", "1, 4", "1, 4")
    assert overlaps.rows[0] == ("0", "1.00 [0.50 1.00], p 0.036")
    assert agreement.rows[0] == ("0", "0.800 [0.700 0.900] (0.300)")


def test_many_runs_show_the_reference_and_the_differences() -> None:
    _, coverage, *_ = comparison_tables(comparison(("a", "b", "c"), reference=2))
    assert coverage.columns == ("layer", "c", "a − c", "b − c")
    assert coverage.rows[0][1:3] == ("0.500", "-0.200 [-0.220 -0.180]")


def test_layers_of_other_numbers_are_named() -> None:
    content = comparison()
    content["layers"][1]["matched"] = [1, 4]
    assert [row[0] for row in comparison_tables(content)[1].rows] == ["0", "1 (4)", "2"]


def test_sentences_name_pairing_and_resamples() -> None:
    content = comparison(("a", "b", "c"))
    content["pairs"][1] |= {"paired": False}
    content["pairs"][2] |= {"matched_by": "relative depth", "reason": "c holds no trace of its own"}
    content["differences"] = ["different questions"]
    second, third, besides, last = comparison_sentences(content)
    assert second == "b − a: 1,000 resamples of samples, unpaired (other questions)."
    assert third == "c − a: no intervals, since c holds no trace of its own. Layers are matched by relative depth."
    assert besides == "The runs differ in more than the model: different questions."
    assert "shows no difference" in last


def test_a_difference_without_interval_is_shown_alone() -> None:
    content = comparison()
    content["layers"][0]["differences"]["coverage"][1]["interval"] = None
    content["layers"][1]["differences"]["coverage"][1] = None
    content["layers"][1]["coverage"][1] = None
    coverage = comparison_tables(content)[1]
    assert coverage.rows[0][-1] == "+0.100"
    assert coverage.rows[1][2:] == ("–", "–")


def test_the_page_loads_nothing_and_names_stay_text() -> None:
    page = render_comparison(comparison(HOSTILE[:3]))
    elements = Elements(page)
    assert not [tag for tag, _ in elements.tags if tag in {"link", "iframe", "img", "object", "embed", "base", "form"}]
    data, *_ = elements.scripts
    assert "__pwned" not in page.replace(data, "")
    assert not set("<>&\u2028\u2029") & set(data)


@pytest.mark.browser
def test_the_page_draws_in_chromium(browser: Any, tmp_path: Path) -> None:
    path = write_comparison(comparison(("one", HOSTILE[0], HOSTILE[4])), tmp_path / "compare.html")
    with opened(browser, path, width=400) as page:
        page.wait_for_selector("#differences-coverage[data-drawn]")
        drawn = page.evaluate("Array.from(document.getElementById('differences-coverage').data[2].y)")
        np.testing.assert_allclose(drawn, [0.1] * 3)
        assert page.locator("#agreement[data-drawn]").count() == 1
        assert HOSTILE[0] in page.text_content("#title")
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.evaluate("window.__pwned") is None


def test_a_measure_of_the_comparison_is_a_row_and_a_table() -> None:
    content = comparison()
    content["measures"] = [
        {"name": "gini", "label": "Renamed", "short": "r", "unit": "", "direction": "", "bounds": [0, 1]}
    ]
    content["measures"][0] |= {"format": ".1f", "floor": None, "interval": None, "nulls": {}, "description": ""}
    overall, gini, *_ = comparison_tables(content)
    assert [row[0] for row in overall.rows] == ["Renamed", "Same experts"]
    assert gini.title == "Renamed"
    assert gini.rows[0][1] == "0.3"
