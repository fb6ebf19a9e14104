"""A killed coupled training resumes and ends with the weights of an unbroken one, bit for bit."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("killed.py")


def test_killed_and_resumed_equals_unbroken(tmp_path):
    ran = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    outcome = json.loads(ran.stdout)
    assert outcome["ended"] == [0, signal.SIGKILL, 0, 0, signal.SIGKILL, 0]
    assert outcome["same"] == {"erc": True, "norms": True, "other": False}
    assert len(outcome["logged"][0]) == 6 * (1 + 2)  # figures of the mean and of two layers, logged once in 12 steps
    assert outcome["logged"][0] == outcome["logged"][1]
