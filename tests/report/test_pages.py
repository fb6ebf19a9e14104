"""The registry of pages, and what every page has in common: kinds of run, scripts, templates, errors."""

import re
from pathlib import Path

import pytest
from report.markup import Elements, embedded
from report.synthetic import write_run

import turnout.report
from turnout.errors import RunError
from turnout.report import read_run, render, write_report
from turnout.report.align import page as align
from turnout.report.audit import page as audit
from turnout.report.comparing import page as comparing
from turnout.report.coupling import page as coupling
from turnout.report.kit.page import KIT_SCRIPTS
from turnout.report.pages import PAGES
from turnout.report.plan import page as plan
from turnout.report.sweep import page as sweep
from turnout.runs import RunFolder

SOURCE = Path(turnout.report.__file__).parent
SCRIPTS = sorted(SOURCE.rglob("*.js"))
TEMPLATES = sorted(SOURCE.rglob("*.html"))
MAKES_MARKUP = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "DOMParser",
    "createContextualFragment",
)
RUNS_TEXT = ("eval(", "Function(", "setTimeout(", "setInterval(", "import(", "javascript:")
LOADS = ("http", "fetch(", "XMLHttpRequest", "WebSocket", "sendBeacon", "localStorage", ".cookie")


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def test_every_script_is_on_a_page() -> None:
    own = [script for page in (align, audit, comparing, coupling, plan, sweep) for script in page.SCRIPTS]
    assert sorted([*KIT_SCRIPTS, *own]) == [name(path) for path in SCRIPTS]


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_scripts_place_text_and_load_nothing(path: Path) -> None:
    script = path.read_text(encoding="utf-8")
    assert [word for word in (*MAKES_MARKUP, *RUNS_TEXT, *LOADS) if word in script] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=name)
def test_templates_have_no_handlers_and_load_nothing(path: Path) -> None:
    template = path.read_text(encoding="utf-8")
    assert re.findall(r"\son\w+=", template) == []
    assert re.findall(r"(?:src|href)=\"(?!#)", template) == []


def test_every_page_has_the_elements_that_the_kit_needs() -> None:
    for path in SOURCE.rglob("page.html"):
        ids = [attributes.get("id") for _, attributes in Elements(path.read_text(encoding="utf-8")).tags]
        assert {"theme", "title"} <= set(ids), name(path)
        assert len(ids := [one for one in ids if one]) == len(set(ids)), name(path)


@pytest.mark.parametrize("verb", ["audit", "import", "eval"])
def test_audits_imports_and_evaluations_have_the_page_of_an_audit(tmp_path: Path, verb: str) -> None:
    run = write_run(tmp_path / "run", 1, 4, verb=verb)
    assert embedded(render(run))["title"] == "synthetic/moe"


@pytest.mark.parametrize("verb", ["grpo", "mask", "anything"])
def test_a_run_of_a_kind_without_a_page_is_refused_in_one_line(tmp_path: Path, verb: str) -> None:
    with RunFolder.open(tmp_path / "run", {"verb": verb}) as run:
        run.finish()
    with pytest.raises(RunError) as raised:
        write_report(tmp_path / "run")
    expected = f"expected a run with a page ({', '.join(PAGES)}), got a run of turnout {verb}"
    assert str(raised.value) == f"{tmp_path / 'run'}: {expected}"
    assert not (tmp_path / "run" / "report.html").exists()


def test_masking_runs_are_refused_for_other_kinds_than_audits(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", {"verb": "plan"}) as run:
        run.write_json("plan.json", {"schema": 1})
        run.finish()
    with pytest.raises(RunError, match="expected an audit, got a run of turnout plan"):
        render(tmp_path / "run", [tmp_path / "masking"])


def test_unfinished_run_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="got no run"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
    RunFolder.open(tmp_path, {}).close()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RunError, match="expected a complete run, got an unfinished one"):
        write_report(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_page_may_be_written_again(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", 1, 4)
    assert write_report(path) == write_report(path) == path / "report.html"
    assert read_run(path).layer_numbers == [0]
