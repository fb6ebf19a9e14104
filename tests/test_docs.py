"""Generated pages are as the code is: `make docs` writes them."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_command_line_page_is_current():
    from turnout.cli.docs import page

    assert (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8") == page(), "stale: run `make docs`"


def test_tree_in_the_readme_is_current():
    spec = importlib.util.spec_from_file_location("tree", ROOT / "docs/tree.py")
    tree = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tree)
    assert (ROOT / "README.md").read_text(encoding="utf-8") == tree.readme(), "stale: run `make docs`"


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target
