"""A plan's tables, sentences and page; tests/sparsity tests its numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
from report.browsing import opened
from report.conftest import HOSTILE
from report.markup import Elements

import turnout
from turnout.errors import RunError
from turnout.report import plan_sentences, plan_tables, render
from turnout.report.plan.page import page_data
from turnout.runs import RunFolder

Plan = dict[str, Any]


@pytest.fixture(scope="module")
def budget(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a plan whose goals differ and whose memory leaves shapes out."""
    path = tmp_path_factory.mktemp("plan") / "budget"
    turnout.plan("3B", "125B", memory="200GB", out=path)
    return path


def content(path: Path) -> Plan:
    return json.loads((path / "plan.json").read_text())


def hostile_plan() -> Plan:
    """A plan of a model with markup in its name."""
    made = turnout.plan(of="llm-jp/optimal-sparsity-math-d512-E8-k2", tokens="125B").to_dict()
    made["question"]["of"] = made["configurations"][0]["name"] = HOSTILE[3]
    made["configurations"][0]["notes"] = [HOSTILE[1]]
    return made


def test_tables_mark_the_recommended_and_what_lies_outside_a_range(budget: Path) -> None:
    stored = content(budget)
    sizes, costs, laws = plan_tables(stored)
    assert len(sizes.rows) == len(costs.rows) == len(laws.rows) == 12
    chosen = {choice["name"] for choice in stored["recommendation"]["choices"]}
    assert {row[0].removeprefix("→ ") for row in sizes.rows if row[0].startswith("→ ")} == chosen
    assert len(chosen) == 2
    for row, one in zip(laws.rows, stored["configurations"], strict=False):
        assert [cell == "–" for cell in row[1:]] == [law["loss"] is None for law in one["laws"]]
        outside = [law["loss"] is not None and not law["in_range"] for law in one["laws"]]
        assert [cell.endswith("*") for cell in row[1:]] == outside


def test_sentences_have_reason_uncertainty_conflict_and_ranges(budget: Path) -> None:
    stored = content(budget)
    lines = plan_sentences(stored)
    for choice in stored["recommendation"]["choices"]:
        assert any(choice["reason"] in line for line in lines)
        assert all(any(doubt in line for line in lines) for doubt in choice["uncertainty"])
    assert stored["recommendation"]["conflict"] in lines
    assert sum("fitted on" in line for line in lines) == 3
    assert f"The JSON has {len(stored['configurations']) - 12} more configurations." in lines


def test_the_page_has_every_configuration(budget: Path) -> None:
    data = page_data(content(budget))
    assert len(data["points"]) == len(data["rows"]) == len(content(budget)["configurations"])
    assert len(data["left_out"]) > 0
    assert data["memory"]["total"] == 100e9
    assert all(len(row["cells"]) + len(row["laws"]) == len(data["columns"]) for row in data["rows"])
    for bar, name in zip(data["parts"], [p["name"] for p in data["points"] if p["chosen"]], strict=True):
        whole = next(p["total"] for p in data["points"] if p["name"] == name)
        assert sum(part["count"] for part in bar["parts"]) == whole


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", {"verb": "plan"}) as run:
        run.write_json("plan.json", hostile_plan())
        run.finish()
    page = render(tmp_path / "run")
    assert not {"svg", "img", "b"} & {tag for tag, _ in Elements(page).tags}
    assert "<svg onload" not in page
    assert "\n" not in plan_tables(hostile_plan())[0].title


def test_another_schema_is_refused(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", {"verb": "plan"}) as run:
        run.write_json("plan.json", {**hostile_plan(), "schema": 2})
        run.finish()
    with pytest.raises(RunError, match="schema 1"):
        render(tmp_path / "run")


@pytest.mark.browser
def test_the_page_draws_in_a_browser(browser: Any, budget: Path) -> None:
    data = page_data(content(budget))
    with opened(browser, budget / "report.html", width=390, scheme="dark") as page:
        for figure in ("space", "curves", "parts"):
            page.wait_for_selector(f"#{figure}[data-drawn]")
        drawn = page.evaluate("document.getElementById('space').data[0].x")
        assert drawn == [point["total"] for point in data["points"]]
        curves = page.evaluate("document.getElementById('curves').data.map((trace) => trace.y)")
        assert [min(y for y in curve if y is not None) for curve in curves[::2]] == [0, 0]
        assert page.locator("#table tbody tr").count() == len(data["rows"])
        assert page.locator("#table tr.chosen").count() == 2
        for width, scheme in ((390, "dark"), (1280, "light")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
