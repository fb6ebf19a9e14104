"""A measured coupling as tables, sentences and a page; tests/coupling tests its figures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from report.browsing import opened, until
from report.conftest import HOSTILE
from report.markup import Elements, embedded, read_page

from turnout.errors import RunError
from turnout.report import coupling_sentences, coupling_tables, read_run, render, write_report
from turnout.report.kit.page import packed_shares
from turnout.runs import RunFolder

SIDE = 6


def matrix(layer: int, side: int = SIDE) -> np.ndarray:
    """M of an invented layer: own expert largest in the first rows, as many as the layer's number."""
    norms = np.random.default_rng(layer).uniform(0.1, 1, (side, side))
    norms[range(layer), range(layer)] = 2
    return norms


def coupling(name: str = "made up", n_layers: int = 3, tokens: bool = True) -> dict[str, Any]:
    """Content of coupling.json, with figures that depend on the layer's number."""

    def figure(value: float | None, p: float = 0.01) -> dict[str, Any]:
        return {"value": value, "interval": None if value is None else [value / 2, value], "expected": 0.25, "p": p}

    def of(layer: int, scale: float) -> dict[str, Any]:
        losses = [{"alpha": alpha, **figure(scale * layer / alpha / 10)} for alpha in (1.0, 2.0)]
        shares = {"rows": figure(layer / SIDE), "columns": figure(layer / SIDE, p=0.5), "ratio": figure(1 + layer)}
        return {"diagonal": 2.0, "rest": 0.5, **shares, "loss": losses}

    def measured(value: float) -> dict[str, Any]:
        return {"value": value, "interval": [value - 0.01, value + 0.01], "expected": 0.2, "by_load": 0.3}

    token = {"by_choice": [0.3, 0.1], "agree": measured(0.4), "first": measured(0.35), "correlation": measured(-0.1)}
    layers = [
        {
            "layer": number,
            "experts": SIDE,
            "width": 16,
            "gated": number != 2,
            "noise_bound": {"value": 0.4, "interval": [0.3, 0.5], "min": 0.1, "max": 0.6},
            "raw": of(number, 1),
            "scale_free": of(number, 0.1),
            "tokens": {"tokens": 1234, "samples": 56, "raw": token, "scale_free": token} if tokens else None,
        }
        for number in range(1, n_layers + 1)
    ]
    span = {"mean": 0.5, "min": 0.1, "max": 0.9}
    counted = {**span, "coupled_layers": 2}
    losses = [{"alpha": 1.0, **counted}, {"alpha": 2.0, **counted}]
    overall = {"ratio": counted, "rows": counted, "columns": counted, "loss": losses}
    tasks = {"name": name, "questions": 56, "prompts": "0", "scope": "all"}
    return {
        "schema": 1,
        "model": {"id": name, "revision": None, "architecture": "Made", "dtype": "bfloat16", "digest": "abc"},
        "tasks": tasks if tokens else None,
        "config": {"permutations": 9999, "resamples": 2000, "seed": 0},
        "overall": {"noise_bound": span, "raw": overall, "scale_free": overall},
        "layers": layers,
    }


def write(path: Path, content: dict[str, Any]) -> Path:
    """A run of `content` with tables, and its page."""
    numbers = [layer["layer"] for layer in content["layers"]]
    norms = np.stack([matrix(number) for number in numbers])
    at, proxy, expert = np.indices(norms.shape).reshape(3, -1)
    matrix_table = {"layer": np.array(numbers)[at], "proxy": proxy, "expert": expert, "norm": norms.reshape(-1)}
    names = ("noise_bound", "router_norm", "gate_norm", "diagonal", "diagonal_scale_free")
    ranks = [f"{side}_rank{suffix}" for side in ("row", "column") for suffix in ("", "_scale_free")]
    experts: dict[str, Any] = {"layer": np.repeat(numbers, SIDE), "expert": np.tile(np.arange(SIDE), len(numbers))}
    experts |= {name: np.linspace(1, 2, len(numbers) * SIDE) for name in names}
    experts |= {name: np.ones(len(numbers) * SIDE, dtype=np.int32) for name in ranks}
    with RunFolder.open(path, {"verb": "coupling", "name": content["model"]["id"]}) as run:
        run.write_table("coupling_matrix", pa.table(matrix_table))
        run.write_table("experts", pa.table(experts))
        run.write_json("coupling.json", content)
        run.finish()
    write_report(path)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("coupling") / "run", coupling())


def test_tables_have_figures_stars_and_random_pairings() -> None:
    raw, free, tokens = coupling_tables(coupling())
    assert raw.columns == ("layer", "ε", "rows", "columns", "diag/rest", "L 1", "L 2")
    assert raw.rows[0] == ("1", "0.40", "17 %*", "17 % ", "2.00*", "0.100*", "0.050*")
    assert raw.rows[-1] == ("random", "", "25 %", "25 %", "0.25", "0.250", "0.250")
    assert free.rows[0][-1] == "0.0050*"
    assert tokens.rows[0] == ("1", "40.0 % [39.0 41.0]", "30.0 %", "35.0 % [34.0 36.0]", "30.0 %", "-0.10")
    assert len(coupling_tables(coupling(tokens=False))) == 2


def test_an_undefined_ratio_is_a_dash() -> None:
    content = coupling()
    for layer in content["layers"]:
        layer["raw"]["ratio"] = {"value": None, "interval": None, "expected": None, "p": None}
    raw = coupling_tables(content)[0]
    assert raw.rows[0][4] == "– "
    assert raw.rows[-1][4] == "–"


def test_sentences_name_their_nulls() -> None:
    lines = coupling_sentences(coupling())
    assert "50 % of router rows, against 25 % in random pairings; more than in random pairings in 2 of 3" in lines[0]
    assert "ERC loss at α = 1: 0.500, random pairings 0.250; lower in 2 of 3 layers." in lines[0]
    assert any("no gate matrix" in line for line in lines)
    assert "1,234 tokens of 56 samples" in lines[-1]
    assert "above the value by load in 3 of 3 layers, below it in 0." in lines[-1]


def test_the_page_holds_m_and_every_figure(written: Path) -> None:
    data = embedded(read_page(written))
    assert data["alphas"] == [1, 2]
    assert [layer["layer"] for layer in data["layers"]] == [1, 2, 3]
    for packed, number in zip(data["matrix"], (1, 2, 3), strict=True):
        assert packed == packed_shares(matrix(number))
    assert len(data["paper"]) == 12
    assert data["sentences"] == coupling_sentences(coupling())


@pytest.mark.parametrize("at", range(0, len(HOSTILE), 2))
def test_names_with_markup_stay_text(tmp_path: Path, written: Path, at: int) -> None:
    content = coupling(HOSTILE[at])
    content["tasks"]["name"] = HOSTILE[(at + 1) % len(HOSTILE)]
    path = write(tmp_path / "run", content)
    received, expected = (Elements(read_page(p)).tags for p in (path, written))
    assert received == expected
    assert embedded(read_page(path))["title"] == HOSTILE[at]
    assert embedded(read_page(path))["tasks"]["name"] == content["tasks"]["name"]


def test_a_run_of_another_schema_or_kind(tmp_path: Path, written: Path) -> None:
    other = write_without_page(tmp_path / "other", coupling() | {"schema": 2})
    with pytest.raises(RunError, match=r"coupling\.json: expected a measured coupling of schema 1, got 2"):
        render(other)
    with pytest.raises(RunError, match="expected an audit, got a run of turnout coupling"):
        read_run(written)


def write_without_page(path: Path, content: dict[str, Any]) -> Path:
    with RunFolder.open(path, {"verb": "coupling"}) as run:
        run.write_json("coupling.json", content)
        run.finish()
    return path


@pytest.fixture
def page(browser: Any, written: Path) -> Iterator[Any]:
    with opened(browser, written / "report.html") as page:
        page.wait_for_selector("#map[data-drawn]")
        yield page


@pytest.mark.browser
def test_the_page_in_a_browser(page: Any) -> None:
    def drawn(figure: str, trace: int, key: str) -> np.ndarray:
        script = "([id, at, key]) => JSON.stringify(document.getElementById(id).data[at][key])"
        return np.array(json.loads(page.evaluate(script, [figure, trace, key])), dtype=float)

    def redrawn(act: Any) -> None:
        before = page.get_attribute("#map", "data-drawn")
        act()
        until(page, "before => document.getElementById('map').dataset.drawn !== before", before)

    np.testing.assert_allclose(drawn("map", 0, "customdata"), matrix(3), atol=2e-5)  # the most coupled layer first
    redrawn(lambda: page.click("#previous"))
    np.testing.assert_allclose(drawn("map", 0, "customdata"), matrix(2), atol=2e-5)
    redrawn(lambda: page.select_option("#normalize", "row"))
    np.testing.assert_allclose(drawn("map", 0, "z"), matrix(2) / matrix(2).max(1, keepdims=True), atol=5e-5)
    redrawn(lambda: page.select_option("#scale", "scale_free"))
    length = np.linspace(1, 2, 3 * SIDE)[SIDE : 2 * SIDE]
    np.testing.assert_allclose(drawn("map", 0, "customdata"), matrix(2) / np.outer(length, length), atol=2e-5)
    np.testing.assert_allclose(drawn("rows", 3, "y"), [1 / 6, 2 / 6, 3 / 6])
    page.focus("#map")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        redrawn(lambda key=key: page.keyboard.press(key))
    assert "Router row 1, expert 1" in page.inner_text("#map-note")
    redrawn(lambda: page.keyboard.press("+"))
    assert page.inner_text("#detail-title") == "Layer 3"
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.locator("#thumbnails button").count() == 3
    page.set_viewport_size({"width": 390, "height": 800})
    until(page, "document.documentElement.scrollWidth <= 390")  # figures follow the window
