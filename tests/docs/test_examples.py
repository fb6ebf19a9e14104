"""The notebooks of examples/ run from top to bottom, have their outputs, and stay small."""

import json

import nbformat
import pytest
from docs.blocks import ROOT
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
QUICK = "06-engine-dump"
MOST_BYTES = 300_000


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=() if p.stem == QUICK else pytest.mark.slow, id=p.stem) for p in NOTEBOOKS]
)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()


def test_there_are_six():
    assert len(NOTEBOOKS) == 6
    assert QUICK in {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "run it from top to bottom"
    assert all(output["output_type"] != "error" for cell in code for output in cell["outputs"])
    assert any(cell["outputs"] for cell in code)
    assert not [output for cell in code for output in cell["outputs"] if output.get("name") == "stderr"]
    assert path.stat().st_size < MOST_BYTES
    assert notebook["cells"][0]["source"][0].startswith("# ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_listed(path):
    assert f"({path.name})" in (ROOT / "examples/README.md").read_text(encoding="utf-8")
