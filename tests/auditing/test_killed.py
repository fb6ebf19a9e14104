"""Nothing lost: an audit killed at any moment ends with the same figures, byte for byte, as one that was not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("killed.py")


def test_killed_behind_every_shard(tmp_path):
    ran = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["kills"] >= 6
    assert all(found["same"])
    assert len(found["left"]) > 2  # with different numbers of shards behind it
    assert found["said"] is False  # no shard was taken for damaged
