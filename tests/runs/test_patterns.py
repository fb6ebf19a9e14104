"""No path of a user is a pattern: a folder called r[1] is itself, not r1."""

import shutil
from pathlib import Path

import polars as pl
import pytest

import turnout
from turnout.runs import RunFolder

STORED = Path(__file__).parents[1] / "fixtures" / "runs-0.1.0"


@pytest.mark.parametrize("name", ["r[1]", "r*", "r?", "r[!2]", "~r", "%r", "{r,q}"])
def test_a_folder_with_a_patterns_name_is_itself(tmp_path, name):
    shutil.copytree(STORED / "audit", tmp_path / name)
    other = shutil.copytree(STORED / "coupling", tmp_path / "r1")
    shutil.copy(other / "tables/experts.parquet", tmp_path)
    run = RunFolder.read(tmp_path / name)
    own = pl.read_parquet((STORED / "audit/tables/experts.parquet").read_bytes())
    assert run.read_table("experts").equals(own)
    turnout.export(tmp_path / name, tmp_path / "out", "parquet", ["experts"])
    assert pl.read_parquet((tmp_path / "out/experts.parquet").read_bytes()).equals(own)
    assert turnout.verify(tmp_path / name) == []
    assert turnout.audit(tmp_path / name).layers[0]["layer"] == 0
