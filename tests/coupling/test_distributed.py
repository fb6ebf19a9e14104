"""Training in two processes equals training in one, with replicated (DDP) and with sharded (FSDP2) parameters."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("distributed.py")


@pytest.fixture(scope="module")
def results():
    one = subprocess.Popen([sys.executable, SCRIPT], stdout=subprocess.PIPE, text=True)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", SCRIPT]
    two = subprocess.run(run, capture_output=True, text=True, check=False)
    assert two.returncode == 0, two.stderr
    return json.loads(one.communicate()[0].splitlines()[-1]) | json.loads(two.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", ["ddp", "fsdp, with checkpointing", "fsdp experts, coupled afterwards"])
def test_two_processes_equal_one(results, way):
    assert results[way]["losses"] == pytest.approx(results["one"]["losses"], rel=1e-5)
    for name, numbers in results["one"]["weights"].items():
        assert results[way]["weights"][name] == pytest.approx(numbers, rel=1e-4, abs=1e-6)


def test_two_processes_equal_one_under_trainer(results):
    for name, numbers in results["one by Trainer"]["weights"].items():
        assert results["ddp by Trainer"]["weights"][name] == pytest.approx(numbers, rel=1e-4, abs=1e-6)


def test_a_sharded_model_is_refused_in_one_line(results):
    expected = "couple: expected a model that is not sharded yet, got a sharded one; couple it before fully_shard"
    assert results["refused"] == expected
