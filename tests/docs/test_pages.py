"""Generated pages are current, links lead somewhere, the front door is small and says the same in both languages."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml
from docs.blocks import ROOT, pages

import turnout

LINKED = [*pages(), ROOT / "CHANGELOG.md"]
PAPERS = ("2601.03425", "2511.07419", "2512.23447", "2508.18672")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors that mkdocs gives a page's headings."""
    from markdown.extensions.toc import slugify

    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {slugify(heading.replace("`", ""), "-") for heading in headings}


def test_command_line_page_is_current():
    from turnout.cli.docs import page

    assert text("docs/reference/cli.md") == page(), "stale: run `make docs`"


def test_tree_is_current():
    spec = importlib.util.spec_from_file_location("tree", ROOT / "docs/tree.py")
    tree = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tree)
    assert text("docs/architecture.md") == tree.page(), "stale: run `make docs`"


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:")):
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), f"{target}#{anchor}"


def test_readme_is_at_most_six_kilobytes():
    assert len(text("README.md").encode()) <= 6144


def test_both_readmes_name_the_same_commands():
    def commands(name: str) -> set[str]:
        return set(re.findall(r"\b(?:turnout [a-z]+|make (?:demo|test|install|site))", text(name))) - {"make site"}

    assert commands("README.md") == commands("README.ko.md")
    assert len(commands("README.md")) > 15


def test_readme_names_every_verb():
    from turnout.cli.main import app

    verbs = {command.name or command.callback.__name__.rstrip("_") for command in app.registered_commands}
    named = set(re.findall(r"turnout ([a-z]+)", text("README.md")))
    assert verbs - named <= {"upcycle"}, "a verb that the table of the README lacks"


def test_python_page_is_current():
    spec = importlib.util.spec_from_file_location("python_page", ROOT / "docs/python_page.py")
    python_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(python_page)
    assert text("docs/reference/python.md") == python_page.page(), "stale: run `make docs`"


def test_citation_is_complete():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == turnout.__version__
    assert citation["authors"] == [{"name": "Turnout contributors"}]
    cited = [reference["identifiers"][0]["value"] for reference in citation["references"]]
    assert cited == [f"arXiv:{paper}" for paper in PAPERS]
    for reference in citation["references"]:
        assert all(author["family-names"] for author in reference["authors"])


def test_changelog_has_this_version():
    assert re.search(
        rf"^## \[{re.escape(turnout.__version__)}\] - \d{{4}}-\d\d-\d\d$", text("CHANGELOG.md"), re.MULTILINE
    )
    assert "## [Unreleased]" in text("CHANGELOG.md")


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_files_that_a_page_names_exist(page):
    named = re.findall(r"`(?:python )?([\w./-]*/[\w.-]+\.py)\b", page.read_text(encoding="utf-8"))
    missing = [name for name in named if not any((at / name).exists() for at in (ROOT, ROOT / "src/turnout"))]
    assert not missing


# Options of other programs, and of this repository's scripts, that pages name.
OTHERS = {"--enable-return-routed-experts"}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_that_a_page_names_exist(page):
    """A renamed option is still accepted, but no page should teach it."""
    known = set(re.findall(r"--[a-z][a-z-]*", text("docs/reference/cli.md"))) | OTHERS
    lines = [
        line
        for line in page.read_text(encoding="utf-8").splitlines()
        if not re.search(r"\b(?:pip|python|pytest|make) ", line)
    ]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", "\n".join(lines)))
    assert named <= known
