"""An audit killed at any moment and resumed has the same figures, byte for byte, as an uninterrupted one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("killed.py")


def test_killed_after_every_shard(tmp_path):
    ran = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["kills"] >= 6
    assert all(report["same"])
    assert len(report["shards"]) > 2  # it was killed after different numbers of shards
    assert report["damaged"] is False  # no shard was taken for damaged
