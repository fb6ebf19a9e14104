"""Benchmarks: every script parses its options, runs with --smoke, and states machine and ratios."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import erc_cost
import pytest

from turnout import ops

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("[a-z]*.py") if "__main__" in path.read_text(encoding="utf-8"))


def test_there_is_a_script_a_claim():
    assert len(SCRIPTS) >= 7


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_a_smoke_option(name):
    options = importlib.import_module(name).options
    assert options(["--smoke"]).smoke
    assert not options([]).smoke


def test_the_flop_bound_is_the_papers_where_a_step_is_experts_only():
    shape = erc_cost.PAPER
    experts_only = 3 * shape.tokens * shape.layers * 6 * shape.top_k * shape.width * shape.hidden
    assert shape.term_flops(3) / experts_only == pytest.approx(ops.erc_cost(64, 8, 4096))
    assert shape.step_flops() > experts_only


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs_and_states_machine_and_ratio(name):
    """Each of these is a script of `make bench`."""
    ran = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--smoke"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"\d+ cores, \d+ threads?, load .*, torch .*, \d{4}-\d\d-\d\d", ran.stdout)
    if "not measured" not in ran.stdout:
        head, rule, row, *_ = (line for line in ran.stdout.splitlines() if line.startswith("|"))
        assert head.count("|") == rule.count("|") == row.count("|") > 3
        assert re.search(r"\d×|\d %|\d%|\d \(\d|1/\d", ran.stdout)


def test_audit_speed_compares_three_ways(tmp_path, monkeypatch, capsys):
    import audit_speed

    monkeypatch.setattr(sys, "argv", ["audit_speed", "--smoke", "--threads", "1", "--out", str(tmp_path / "table.md")])
    audit_speed.main()
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == table
    for way in ("one at a time", "padded batches", "turnout"):
        for dtype in ("bfloat16", "float32"):
            assert f"| {dtype} | {way} |" in table
    assert "GFLOP/s" in table
