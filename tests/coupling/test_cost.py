"""The benchmark runs, and its FLOP counts are the formula's."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from turnout import ops

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "erc_cost.py"


def test_the_bound_is_the_papers_where_a_step_is_experts_only():
    spec = importlib.util.spec_from_file_location("erc_cost", SCRIPT)
    bench = importlib.util.module_from_spec(spec)
    sys.modules["erc_cost"] = bench  # its dataclass looks itself up
    spec.loader.exec_module(bench)
    shape = bench.PAPER
    experts_only = 3 * shape.tokens * shape.layers * 6 * shape.top_k * shape.width * shape.hidden
    assert shape.term_flops(3) / experts_only == pytest.approx(ops.erc_cost(64, 8, 4096))
    assert shape.step_flops() > experts_only


def test_it_runs():
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--smoke", "--pairs", "1"], capture_output=True, text=True, check=True
    )
    assert "| smoke | turnout |" in ran.stdout
    assert "gate_up_proj" in ran.stdout
