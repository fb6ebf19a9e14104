"""A run killed at any moment resumes and ends with the same bytes as one that was not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed.py")


@pytest.mark.parametrize(("how", "at_least"), [("random", 20), ("steps", 25)])
def test_a_killed_run_ends_with_the_same_bytes(tmp_path, how, at_least):
    ran = subprocess.run([sys.executable, SCRIPT, tmp_path, how], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["kills"] >= at_least
    assert found["problems"] == []  # a kill alone is never taken for damage
    assert found["sound"] == []
    assert found["torch"] is False
