"""A sweep's page and terminal tables, from the frontier.json of an invented sweep."""

from pathlib import Path
from typing import Any

import pytest
from report.browsing import opened
from report.conftest import HOSTILE
from report.markup import Elements
from sparsity.planted import EXPERTS, falling, sweep, swept, u_shaped

from turnout.errors import RunError
from turnout.report import frontier_tables, render, write_report
from turnout.report.sweep.page import page_data
from turnout.runs import RunFolder
from turnout.sparsity.analysis.frontier import frontier

CURVES = {"facts": falling, "chains-1": u_shaped, "chains-2": u_shaped}


def store(path: Path, content: dict[str, Any], **changes: Any) -> Path:
    """A finished sweep's folder."""
    with RunFolder.open(path, {"verb": "sweep"}) as run:
        run.write_json("sweep.json", content)
        run.write_json("frontier.json", frontier(content) | changes)
        run.finish()
    return path


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """Two budgets, seven numbers of experts, five seeds, a dense model."""
    wider = {task: lambda x, curve=curve: curve(x) - 0.2 for task, curve in CURVES.items()}
    return sweep(swept(CURVES), swept(CURVES, experts=[1]), swept(wider, width=128))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> Path:
    return store(tmp_path_factory.mktemp("sweep") / "run", content)


def test_the_page_has_every_shape_verdict_and_effect(content: dict[str, Any]) -> None:
    result = frontier(content)
    data = page_data(result, "run")
    assert len(data["points"]) == 2 * len(EXPERTS) + 1
    assert [curve["name"] for curve in data["curves"]] == ["width 64, expert width 128", "width 128, expert width 256"]
    assert len(data["summary"]["columns"]) == 4
    cells = {row["task"]: [cell["cell"] for cell in row["cells"]] for row in data["summary"]["rows"]}
    assert cells == {
        "facts": ["monotone: sparser better"] * 4,
        **dict.fromkeys(("chains-1", "chains-2", "chains"), ["U"] * 4),
    }
    assert len(data["verdicts"]) == 2 * 4 * 2
    assert sum(len(effect["rows"]) for effect in data["effects"]) == len(result["effects"])
    assert all(len(row) == 7 + len(data["measures"]) for row in data["table"]["facts"])
    assert data["audited"] == {"gini": "Gini", "coverage": "Coverage", "jaccard_mean": "Jaccard"}


def test_terminal_tables_have_the_verdicts(content: dict[str, Any]) -> None:
    shapes, effects = frontier_tables(frontier(content))
    assert {row[3] for row in shapes.rows} == {"U", "monotone: sparser better"}
    assert {row[-1] for row in effects.rows} >= {"better"}


def test_one_seed_has_no_verdict() -> None:
    data = page_data(frontier(sweep(swept(CURVES, seeds=[0]))), "run")
    assert {cell["cell"] for row in data["summary"]["rows"] for cell in row["cells"]} == {"no verdict"}
    assert "1 seed;" in data["lead"]


def test_a_sweep_that_failed_everywhere_still_has_a_page(tmp_path: Path) -> None:
    trials = swept(CURVES, seeds=[0])
    for one in trials:
        one.update(found=None, error=HOSTILE[3])
    page = render(store(tmp_path / "run", sweep(trials)))
    assert not {"svg", "img", "b"} & {tag for tag, _ in Elements(page).tags}


def test_hostile_tasks_stay_text(tmp_path: Path) -> None:
    trials = swept({HOSTILE[3]: falling}, seeds=range(3))
    page = render(store(tmp_path / "run", sweep(trials)))
    assert not {"svg", "img", "b"} & {tag for tag, _ in Elements(page).tags}


def test_another_schema_and_a_sweep_without_analysis_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="expected a sweep's frontier of schema 1, got 2"):
        render(store(tmp_path / "other", content, schema=2))
    with RunFolder.open(tmp_path / "old", {"verb": "sweep"}) as run:
        run.write_json("sweep.json", content)
        run.finish()
    with pytest.raises(RunError, match=r"frontier\.json"):
        render(tmp_path / "old")


@pytest.mark.browser
def test_in_a_browser(browser: Any, stored: Path, content: dict[str, Any]) -> None:
    with opened(browser, write_report(stored), width=390) as page:
        page.wait_for_selector("#curve[data-drawn]")
        page.select_option("#task", "chains")
        page.select_option("#measure", "accuracy")
        page.select_option("#along", "total")
        drawn = page.evaluate("Array.from(document.getElementById('curve').data[0].y)")
        points = [one for one in frontier(content)["points"] if one["budget"] == 0 and not one["dense"]]
        assert drawn == [one["values"]["chains"]["accuracy"]["mean"] for one in points]
        assert page.locator("#audit-figures figure[data-drawn]").count() == 3
        assert "rises up to about 16 experts" in page.inner_text("#sentences")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.click("#theme")
        assert page.get_attribute("html", "data-theme") == "dark"
