"""`turnout report` as a user runs it."""

import pytest
from report.synthetic import write_run
from report.synthetic_evidence import write_masking


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", 3, 8, evidence=True)


def test_page_and_figures(turnout, run, tmp_path):
    ran = turnout("report", run, "--figures", tmp_path / "figures", "--json")
    assert ran.code == 0, ran.err
    found = ran.json()
    assert found["report"] == str(run / "report.html")
    assert found["bytes"] == (run / "report.html").stat().st_size
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert sorted(found["figures"]) == [str(tmp_path / "figures" / name) for name in names]
    assert {"map.svg", "map.png", "depth-coverage.svg", "depth-coverage.png"} <= set(names)
    assert len(names) == 18


def test_without_a_rasterizer_the_svg_files_are_written(turnout, run, tmp_path, monkeypatch):
    monkeypatch.setattr("turnout.report.kit.png.resvg", lambda: None)
    ran = turnout("report", run, "--figures", tmp_path / "figures")
    assert ran.code == 0
    assert ran.err.count("pip install 'turnout[png]'") == 1
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg"}


def test_a_masking_run_of_another_audit_is_ignored_or_refused_in_one_line(turnout, run):
    masking = write_masking(run, identity="another")
    assert turnout("report", run).code == 0
    ran = turnout("report", run, "--masking", masking)
    assert ran.code == 1
    assert "one of another audit" in ran.err
    assert len(ran.err.strip().splitlines()) == 1


@pytest.mark.parametrize("given", ["nothing", "a file"])
def test_a_folder_without_a_run_is_refused_in_one_line(turnout, tmp_path, given):
    path = tmp_path / "there"
    if given == "a file":
        path.write_text("")
    ran = turnout("report", path)
    assert ran.code == 1
    assert "expected a run's folder" in ran.err
    assert len(ran.err.strip().splitlines()) == 1
