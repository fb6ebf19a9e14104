"""Every command and snippet of the documentation runs, page by page, in a folder with the files that it names."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from docs.blocks import LANGUAGES, ROOT, Block, blocks, pages
from docs.workspace import fill

# Pages of a few seconds run in every test run, the others with the slow tests.
QUICK = {"README.md", "docs/reference/tasks.md"}
# As many blocks of commands may be marked as not run; a new one needs a reason and a place in this number.
MOST_NOT_RUN = 20
ALL = [block for page in pages() for block in blocks(page)]
RUN = {page: [block for block in ALL if block.page == page] for page in dict.fromkeys(block.page for block in ALL)}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, half_taught: Path) -> Path:
    """The folder that each page gets a copy of."""
    folder = tmp_path_factory.mktemp("pages")
    fill(folder, half_taught)
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page's own copy, as the current folder; `turnout` and `python` on the path are these tests' own."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    commands = tmp_path / ".bin"
    commands.mkdir()
    for name, words in {"turnout": "-m turnout", "python": ""}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_bash(block: Block, _: dict) -> None:
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.place}\n{block.code}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def run_python(block: Block, names: dict) -> None:
    code = "\n" * (block.line - 1) + block.code  # so that a traceback has the page's own line
    exec(compile(code, ROOT / block.page, "exec"), names)


def run_yaml(block: Block, _: dict) -> None:
    from turnout import SweepRecipe
    from turnout.training import TrainRecipe

    kind = SweepRecipe if "base" in yaml.safe_load(block.code) else TrainRecipe
    kind.parse(yaml.safe_load(block.code), where=block.place)
    Path(block.title).write_text(block.code, encoding="utf-8")


def run_json(block: Block, _: dict) -> None:
    if not block.code.startswith("--8<--"):
        json.loads(block.code)


RUNNERS = {"bash": run_bash, "python": run_python, "yaml": run_yaml, "json": run_json}


def parameters() -> list:
    runnable = [page for page, found in RUN.items() if any(b.language in RUNNERS and not b.not_run for b in found)]
    return [pytest.param(page, marks=() if page in QUICK else pytest.mark.slow) for page in runnable]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", parameters())
def test_page_runs_from_top_to_bottom(page, folder):
    names: dict = {"__name__": "__main__"}
    for block in RUN[page]:
        if block.language in RUNNERS and not block.not_run:
            RUNNERS[block.language](block, names)


def test_quick_pages_exist():
    assert set(RUN) >= QUICK


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.place)
def test_block_is_of_a_known_language(block):
    assert block.language in LANGUAGES
    assert block.language != "yaml" or block.title, "a recipe needs the name of its file: title=…"


def test_blocks_that_are_not_run_are_few_and_say_why():
    left_out = [block for block in ALL if block.not_run]
    assert len(left_out) <= MOST_NOT_RUN, "\n".join(f"{block.place}: {block.not_run}" for block in left_out)
    assert all(block.language in RUNNERS for block in left_out), "text needs no marker"
    assert all(len(block.not_run.split()) >= 2 for block in left_out)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_stand_in_fences(page):
    """A command in an indented block would not be run."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        text = text.replace(block.code, "")
    assert not re.findall(r"^ {4,}(?:turnout|python|make) .*$", text, re.MULTILINE)
