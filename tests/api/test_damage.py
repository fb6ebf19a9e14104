"""Files of a run are compared with their digests before they are used."""

import json
import shutil
from pathlib import Path

import pytest

import turnout
from turnout.errors import ModelError, RunError
from turnout.models.change.adapter import DESCRIPTION, TENSORS, RouterAdapter

STORED = Path(__file__).parents[1] / "fixtures" / "runs-0.1.0" / "align"


def flip(path, at=-9):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def test_a_run_with_a_flipped_bit_is_not_used_as_an_adapter(tmp_path, checkpoint):
    run = shutil.copytree(STORED, tmp_path / "align")
    flip(run / TENSORS)
    assert [problem.file for problem in turnout.verify(run)] == [TENSORS]
    with pytest.raises(RunError, match=r"adapter\.safetensors: expected sha256 .*, got other bytes \(damaged\)"):
        turnout.load(checkpoint("olmoe"), adapter=run)


def test_an_adapter_outside_its_run_has_its_own_digest(tmp_path):
    adapter = RouterAdapter.read(STORED)
    data, content = adapter.encoded()
    (tmp_path / TENSORS).write_bytes(data)
    (tmp_path / DESCRIPTION).write_text(json.dumps(content))
    assert RouterAdapter.read(tmp_path).layers == adapter.layers
    flip(tmp_path / TENSORS)
    with pytest.raises(ModelError, match=r"expected sha256 .*, as adapter\.json states, got other bytes"):
        RouterAdapter.read(tmp_path)
