"""A killed training resumes from its last complete checkpoint and ends with the same weights, bit for bit."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("killed.py")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    ran = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_killed_twice_and_resumed_ends_with_the_same_weights(outcomes):
    assert outcomes["first"] == outcomes["second"] == {"signal": signal.SIGKILL}
    assert outcomes["kept"] == ["checkpoint-4"]
    assert outcomes["third"]["resumed_at"] == 8
    assert outcomes["same"]


def test_killed_and_resumed_in_bfloat16(outcomes):
    assert outcomes["half"] == {"signal": signal.SIGKILL}
    assert outcomes["half_resumed"]["resumed_at"] == 4
    assert outcomes["half_same"]


def test_a_checkpoint_killed_half_way_is_not_used(outcomes):
    assert outcomes["torn"] == {"signal": signal.SIGKILL}
    assert outcomes["torn_kept"] == ["checkpoint-4", "checkpoint-8"]
    assert outcomes["torn_resumed"]["resumed_at"] == 4
    assert outcomes["torn_same"]
