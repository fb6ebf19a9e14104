import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "audit_speed.py"


def test_the_benchmark_runs_and_compares_three_ways(tmp_path):
    command = [sys.executable, str(SCRIPT), "--smoke", "--out", str(tmp_path / "table.md")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    table = (tmp_path / "table.md").read_text()
    for way in ("one at a time", "padded batches", "turnout"):
        for dtype in ("bfloat16", "float32"):
            assert f"| {dtype} | {way} |" in table
    assert "GFLOP/s" in table
