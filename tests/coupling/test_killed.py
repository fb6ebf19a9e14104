"""A coupled training that is killed goes on and ends with the weights of one that was not, bit for bit."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("killed.py")


def test_killed_and_resumed_ends_as_unbroken(tmp_path):
    ran = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["ended"] == [0, signal.SIGKILL, 0, 0, signal.SIGKILL, 0]
    assert found["same"] == {"erc": True, "norms": True, "other": False}
    assert len(found["logged"][0]) == 6 * (1 + 2)  # figures of the mean and of two layers, logged once in 12 steps
    assert found["logged"][0] == found["logged"][1]
